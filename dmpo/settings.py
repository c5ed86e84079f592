"""Settings of the algorithms: the schema of the `algorithm` part of an experiment."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from graphs import Order

Width = Annotated[int, Field(ge=1, le=4_096)]


def _rising(change: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= change[0] < change[1] <= 1:
        raise ValueError(f"{list(change)} are not two rising shares of training; allowed: 0 <= first < second <= 1")
    return change


Change = Annotated[tuple[float, float], AfterValidator(_rising)]


def scheduled(first: float, last: float | None, progress: float, change: tuple[float, float] = (0.0, 1.0)) -> float:
    """What goes linearly from `first` to `last`, between two shares of training; `first` throughout if that is all."""
    start, end = change
    return first if last is None else first + (last - first) * min(max((progress - start) / (end - start), 0.0), 1.0)


class LearnerSettings(BaseModel):
    """What all learners are told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gamma: float = Field(
        0.99, gt=0, le=1, description="Discount of one action, however many simulated steps it is held."
    )
    lr_decay: bool = Field(False, description="Whether learning rates fall linearly to zero over training.")
    rollout_steps: int = Field(
        128, ge=1, le=100_000, description="Actions of each agent, in each environment, per iteration."
    )
    init_log_std: float = Field(
        -0.5, description="Initial log standard deviation of continuous actions, in units where ±1 are their bounds."
    )
    init_mean: float = Field(
        0.0, description="Initial mean of continuous actions, in units where ±1 are their bounds; 0 for discrete ones."
    )
    max_grad_norm: float = Field(
        0.5, gt=0, description="Largest norm of one agent's gradient, or of that of the parameters all share."
    )
    normalize_observations: bool = Field(
        False, description="Whether each agent normalizes its state by what it has seen, feature by feature."
    )

    def rate(self, progress: float) -> float:
        """What is left of the learning rates."""
        return 1 - progress if self.lr_decay else 1.0


class AgentSettings(LearnerSettings):
    """What learners with policies without memory are told besides."""

    lr_policy: float = Field(1e-3, gt=0, description="Learning rate of the policies.")
    lr_value: float = Field(1e-3, gt=0, description="Learning rate of the value functions.")
    hidden_sizes: list[Width] = Field(
        [64, 64], max_length=8, description="Widths of the hidden layers of policies and values."
    )
    share_parameters: bool = Field(
        False, description="Whether all agents share one network; each still sees only its neighborhood."
    )
    neighbor_order: Order = Field(
        "number",
        description="Where a network finds its neighbors in what it is given: nearest first, and of those equally far "
        "away by number, or cyclic, by how far on from its own number they are, modulo N; on loops all who share a "
        "network then find the same neighbor, seen from where they are, in the same place.",
    )


class ExtendedSettings(BaseModel):
    """How far agents look."""

    kappa: int = Field(3, ge=0, description="κ: how many hops a critic sees, and values are reduced over.")


class EntropySettings(BaseModel):
    """A bonus for actions that stay mixed."""

    entropy_coef: float = Field(0.0, ge=0, description="Weight of the entropy bonus, at the start.")
    entropy_coef_final: float | None = Field(
        None, ge=0, description="Weight of the entropy bonus at the end, reached linearly; null keeps the first."
    )

    def entropy_weight(self, progress: float) -> float:
        """Linear from the first weight of the entropy bonus to the last."""
        return scheduled(self.entropy_coef, self.entropy_coef_final, progress)


class ActorCriticSettings(EntropySettings, AgentSettings):
    """Policies that ascend advantages, and values that learn returns."""

    gae_lambda: float = Field(0.5, ge=0, le=1, description="λ of the advantages.")
    return_lambda: float = Field(1.0, ge=0, le=1, description="λ of the values' targets; 1 is eq. 5 of the paper.")
    consensus: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How far each agent moves the parameters of its policy and values, after the gradient steps on a "
        "batch, towards the mean of its neighbors' and its own; all then begin alike. 0 leaves each to itself.",
    )

    @model_validator(mode="after")
    def _somebody_to_agree_with(self) -> Self:
        if self.consensus and self.share_parameters:
            raise ValueError(
                f"consensus = {self.consensus:g} has nothing to average where share_parameters = true gives all agents "
                "one network; leave one of them out"
            )
        return self


class PPOSettings(ActorCriticSettings):
    """Proximal policy optimization."""

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


class WarmUpSettings(BaseModel):
    """How much is seen before anything is improved."""

    warm_up_steps: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Actions of each agent, over all environments, that the untrained policy takes before it begins "
        "to improve; they count as any others.",
    )


class SACSettings(WarmUpSettings, ExtendedSettings, AgentSettings):
    """Soft actor-critic with extended action values, from replayed steps."""

    gamma: float = Field(
        0.99, gt=0, lt=1, description="Discount of one action, however many simulated steps it is held."
    )
    lr_temperature: float = Field(3e-3, gt=0, description="Learning rate of the temperatures' logarithms.")
    rollout_steps: int = Field(
        10, ge=1, le=100_000, description="Actions of each agent, in each environment, per iteration."
    )
    gradient_steps: int = Field(
        20,
        ge=1,
        le=100_000,
        description="G: gradient steps per iteration or, where steps are imagined, each time they are.",
    )
    policy_delay: int = Field(
        2,
        ge=1,
        le=1_000,
        description="Of so many of these steps one changes policies and temperatures as well.",
    )
    overlap: bool = Field(
        False,
        description="Whether these steps are taken while the environment steps, from what was replayed before, instead "
        "of after all of an iteration's steps.",
    )
    batch_size: int = Field(256, ge=1, le=100_000, description="Steps of all agents that a gradient step replays.")
    buffer_size: int = Field(
        100_000, ge=1, le=10_000_000, description="Actions of each agent, over all environments, to replay from."
    )
    tau: float = Field(0.005, gt=0, le=1, description="τ: how far target networks follow at each step.")
    target_entropy: float | None = Field(
        None,
        description="Entropy that each agent's temperature is tuned to, at the start, in nats; null means a third of "
        "the largest for discrete actions and minus their number for continuous ones.",
    )
    target_entropy_final: float | None = Field(
        None, description="The same at the end, reached linearly; null keeps the first."
    )
    init_temperature: float = Field(0.02, gt=0, description="Temperature α at the start, in units of a step's reward.")


class ModelSettings(WarmUpSettings):
    """Localized models, and how agents practise in them."""

    lr_model: float = Field(1e-3, gt=0, description="Learning rate of the models.")
    model_actions: Literal["own", "neighbors"] = Field(
        "own",
        description="Whose actions a model is told: its own agent's, as in the paper, or its neighbors' as well, "
        "which matters where agents sense each other.",
    )
    model_encoding_size: Width = Field(8, description="Width of an encoded state.")
    model_hidden_size: Width = Field(16, description="Width of the hidden layers of a model.")
    model_message_size: Width = Field(12, description="Width of a message between neighbors.")
    model_batch_size: int = Field(512, ge=1, le=100_000, description="Windows in a gradient step of the models.")
    model_max_grad_norm: float = Field(10.0, gt=0, description="Largest norm of one model's gradient.")
    model_loss_steps: int = Field(
        1,
        ge=1,
        le=100,
        description="H: steps in open loop that the loss covers; with 1 each gradient is an agent's own.",
    )
    model_reward_coef: float = Field(1.0, ge=0, description="c_r: weight of the reward's error beside the state's.")
    model_fit_steps: int = Field(
        500, ge=1, le=1_000_000, description="Most gradient steps of the models per iteration."
    )
    model_warm_up_fit_steps: int | None = Field(
        None, ge=1, le=1_000_000, description="The same for the first fit, after the warm-up; null means no other."
    )
    model_validation_every: int = Field(
        25, ge=1, le=100_000, description="Gradient steps between looks at the held-out error."
    )
    model_patience: int = Field(4, ge=1, le=10_000, description="Looks without progress after which fitting stops.")
    model_holdout: float = Field(
        0.125, ge=0, lt=1, description="Share of trajectories that the models never learn from."
    )
    model_buffer_size: int = Field(
        6_000, ge=1, le=10_000_000, description="Actions of each agent, over all environments, that models learn from."
    )
    inner_iterations: int = Field(10, ge=1, le=1_000, description="B: batches to improve on per real rollout.")
    model_share: float = Field(0.5, ge=0, le=1, description="q0: probability that a batch comes from the models.")
    model_share_final: float | None = Field(
        None, ge=0, le=1, description="q0 later on; null keeps the first. Models learn no more once it has come to 0."
    )
    model_share_schedule: Change = Field(
        (0.0, 1.0), description="Shares of training between which q0 goes from the first to the final, linearly."
    )
    model_starts: int = Field(512, ge=1, le=100_000, description="Imagined rollouts in a batch.")
    model_horizon: int = Field(25, ge=1, le=10_000, description="T: steps of an imagined rollout, at first.")
    model_horizon_final: int | None = Field(None, ge=1, le=10_000, description="T later on; null keeps the first.")
    model_horizon_schedule: Change = Field(
        (0.0, 1.0), description="Shares of training between which T goes from the first to the final, linearly."
    )


class DPPOSettings(ExtendedSettings, PPOSettings):
    """Decentralized PPO with extended value functions (DMPO without its model)."""

    name: Literal["dppo"] = Field("dppo", description="Decentralized PPO.")


class CPPOSettings(PPOSettings):
    """PPO with local policies and critics that see everybody."""

    name: Literal["cppo"] = Field("cppo", description="PPO with critics that see everybody.")
    objective: Literal["team", "selfish"] = Field(
        "team", description="What policies improve: the mean return of all agents, or each one its own."
    )


class IA2CSettings(ActorCriticSettings):
    """Independent advantage actor-critic on one's own and one's neighbors' states."""

    name: Literal["ia2c"] = Field("ia2c", description="Independent advantage actor-critic.")
    gae_lambda: float = Field(1.0, ge=0, le=1, description="λ of the advantages; 1 is n-step returns less values.")
    entropy_coef: float = Field(0.01, ge=0, description="Weight of the entropy bonus, at the start.")
    rollout_steps: int = Field(
        20, ge=1, le=100_000, description="Actions of each agent, in each environment, per gradient step."
    )


class DMPOSettings(ModelSettings, ExtendedSettings, PPOSettings):
    """Decentralized model-based policy optimization: DPPO whose agents practise in models of their own."""

    name: Literal["dmpo"] = Field("dmpo", description="Decentralized model-based policy optimization.")
    total_kl: float = Field(
        0.05,
        gt=0,
        description="An agent stops improving its policy until the next real rollout once the mean KL divergence from "
        "the policy that collected the last one passes 1.5 times this.",
    )

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.model_loss_steps > self.rollout_steps:
            raise ValueError(
                f"model_loss_steps = {self.model_loss_steps} is longer than a trajectory of rollout_steps = {self.rollout_steps}; "
                "choose fewer"
            )
        return self


class DSACSettings(SACSettings):
    """Decentralized SAC with extended action values."""

    name: Literal["dsac"] = Field("dsac", description="Decentralized SAC.")


class DMPOSACSettings(ModelSettings, SACSettings):
    """Decentralized model-based policy optimization over SAC."""

    name: Literal["dmpo_sac"] = Field("dmpo_sac", description="Decentralized model-based policy optimization over SAC.")
    model_share: float = Field(0.5, ge=0, le=1, description="q0: share of replayed steps that come from the models.")
    model_horizon: int = Field(1, ge=1, le=10_000, description="T: steps of an imagined rollout, at first.")
    inner_iterations: int = Field(1, ge=1, le=1_000, description="B: times that steps are imagined anew per iteration.")


class IC3NetSettings(EntropySettings, LearnerSettings):
    """Agents that remember, and learn when to tell their neighbors."""

    name: Literal["ic3net"] = Field("ic3net", description="Individualized controlled continuous communication.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of the one network.")
    value_coef: float = Field(0.5, gt=0, description="Weight of the values' error beside the policy's gain.")
    hidden_size: Width = Field(64, description="H, numbers in a hidden state, and in the message made of it.")
    rollout_steps: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Actions of each agent, in each environment, per gradient step, which goes back as far in time.",
    )
