"""Settings of the algorithms: the schema of the `algorithm` part of an experiment."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(ge=1, le=4_096)]


class DPPOSettings(BaseModel):
    """Decentralised PPO with extended value functions (DMPO without its model)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Literal["dppo"] = Field("dppo", description="Decentralised PPO.")
    kappa: int = Field(3, ge=0, description="κ: how many hops a critic sees, and values are reduced over.")
    gamma: float = Field(
        0.99, gt=0, le=1, description="Discount of one action, however many simulated steps it is held."
    )
    gae_lambda: float = Field(0.5, ge=0, le=1, description="λ of the advantages.")
    return_lambda: float = Field(1.0, ge=0, le=1, description="λ of the values' targets; 1 is eq. 5 of the paper.")
    lr_policy: float = Field(1e-3, gt=0, description="Learning rate of the policies.")
    lr_value: float = Field(1e-3, gt=0, description="Learning rate of the value functions.")
    lr_decay: bool = Field(False, description="Whether both learning rates fall linearly to zero over training.")
    clip: float = Field(0.2, gt=0, description="ε of PPO-clip: how far a probability ratio may leave 1.")
    kl_target: float | None = Field(
        0.01,
        gt=0,
        description="An agent stops improving its policy in an iteration once the mean KL divergence from the policy "
        "that collected the data passes 1.5 times this; null never stops.",
    )
    epochs: int = Field(10, ge=1, le=1_000, description="Passes over the data of an iteration.")
    minibatches: int = Field(
        4, ge=1, le=10_000, description="Gradient steps per epoch, each on an equal share of the data."
    )
    rollout_steps: int = Field(
        128, ge=1, le=100_000, description="Actions of each agent, in each environment, per iteration."
    )
    hidden: list[Width] = Field(
        [64, 64], max_length=8, description="Widths of the hidden layers of policies and values."
    )
    entropy_coefficient: float = Field(0.0, ge=0, description="Weight of the entropy bonus, at the start.")
    entropy_coefficient_final: float | None = Field(
        None, ge=0, description="Weight of the entropy bonus at the end, reached linearly; null keeps the first."
    )
    init_log_std: float = Field(
        -0.5, description="Initial log standard deviation of continuous actions, in units where ±1 are their bounds."
    )
    init_mean: float = Field(
        0.0, description="Initial mean of continuous actions, in units where ±1 are their bounds; 0 for discrete ones."
    )
    share_parameters: bool = Field(
        False, description="Whether all agents share one network; each still sees only its neighbourhood."
    )
    max_grad_norm: float = Field(0.5, gt=0, description="Largest norm of one agent's gradient.")
    normalize_observations: bool = Field(
        False, description="Whether each agent normalises its state by what it has seen, feature by feature."
    )
