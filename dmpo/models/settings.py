"""Settings of the localized models and of the rollouts in them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dmpo.settings import LocalitySettings, Schedule, WarmUpSettings, Width, scheduled


class ModelSettings(WarmUpSettings, LocalitySettings):
    """Localized models, and how agents train on rollouts in them."""

    lr_model: float = Field(1e-3, gt=0, description="Learning rate of the models.")
    model_actions: Literal["own", "neighbors"] = Field(
        "own",
        description="Actions that a model's inputs include: its own agent's, as in the paper, or its neighbors' as "
        "well, which matters where agents sense each other.",
    )
    model_encoding_size: Width = Field(8, description="Width of an encoded state.")
    model_hidden_size: Width = Field(16, description="Width of the hidden layers of a model.")
    model_message_size: Width = Field(12, description="Width of a message between neighbors.")
    model_batch_size: int = Field(512, ge=1, le=100_000, description="Sequences in a gradient step of the models.")
    model_max_grad_norm: float = Field(10.0, gt=0, description="Largest norm of one model's gradient.")
    model_loss_steps: int = Field(
        1,
        ge=1,
        le=100,
        description="H: steps in open loop that the models' loss covers.",
    )
    model_gradient: Literal["own", "neighborhood"] = Field(
        "own",
        description="Where the gradient of an agent's model loss goes. own: no further than its own model, which takes "
        "its neighbors' messages as given. neighborhood: back to the neighbors' encoders and, with more than one step "
        "in model_loss_steps, to their whole models; these gradients are further messages, and they are counted.",
    )
    model_reward_coef: float = Field(
        1.0, ge=0, description="Weight c_r of the reward's error beside the state's in the models' loss."
    )
    model_fit_steps: int = Field(
        500, ge=1, le=1_000_000, description="Most gradient steps of the models per iteration."
    )
    model_warm_up_fit_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Most gradient steps of the first fit, after the warm-up. null means no exception.",
    )
    model_validation_every: int = Field(
        25, ge=1, le=100_000, description="Gradient steps of the models between two validations on the holdout."
    )
    model_patience: int = Field(
        4, ge=1, le=10_000, description="Validations without progress after which fitting stops."
    )
    model_holdout: float = Field(
        0.125,
        ge=0,
        lt=1,
        description="Share of the episodes that models never learn from. Half of these tell when to stop fitting, and "
        "the models' errors are reported on the other half.",
    )
    model_buffer_size: int = Field(
        6_000,
        ge=1,
        le=10_000_000,
        description="Capacity of the models' replay buffer, in actions of each agent summed over environments.",
    )
    inner_iterations: int = Field(
        10, ge=1, le=1_000, description="B: batches, real or from the models, to improve on per real rollout."
    )
    model_share: float = Field(
        0.5, ge=0, le=1, description="Probability q0 that a batch comes from the models, at the start of training."
    )
    model_share_final: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability q0 at the end of its schedule. null keeps the first one. Models stop learning once "
        "it is 0.",
    )
    model_share_schedule: Schedule = Field(
        (0.0, 1.0), description="Shares of training between which q0 moves from the first to the final value, linearly."
    )
    model_starts: int = Field(512, ge=1, le=100_000, description="Model rollouts in a batch.")
    model_horizon: int = Field(
        25, ge=1, le=10_000, description="T: steps of a model rollout, at the start of training."
    )
    model_horizon_final: int | None = Field(
        None, ge=1, le=10_000, description="T at the end of its schedule. null keeps the first one."
    )
    model_horizon_schedule: Schedule = Field(
        (0.0, 1.0), description="Shares of training between which T moves from the first to the final value, linearly."
    )

    @model_validator(mode="after")
    def _check_loss_steps(self) -> Self:
        rollout_steps = getattr(self, "rollout_steps", self.model_loss_steps)  # of the learner that has these models
        if self.model_loss_steps > rollout_steps:
            raise ValueError(
                f"model_loss_steps = {self.model_loss_steps} is longer than a trajectory of rollout_steps = "
                f"{rollout_steps}; choose fewer"
            )
        return self

    def horizon_at(self, progress: float) -> int:
        """T once `progress` of training is done: linear between two points, as in MBPO's table 1."""
        return round(scheduled(self.model_horizon, self.model_horizon_final, progress, self.model_horizon_schedule))

    def model_share_at(self, progress: float) -> float:
        """q0 once `progress` of training is done."""
        return scheduled(self.model_share, self.model_share_final, progress, self.model_share_schedule)
