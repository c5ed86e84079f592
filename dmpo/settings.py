"""Settings that several learners share: the parts of which each algorithm's own settings are put together.

Those of an update stand beside it (`dmpo.updates`), those of the models in `dmpo.models`, and those of a learner in
its own file.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from graphs.neighborhood import Order

Width = Annotated[int, Field(ge=1, le=4_096)]


def _check_rising(schedule: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= schedule[0] < schedule[1] <= 1:
        raise ValueError(f"{list(schedule)} are not two rising shares of training; allowed: 0 <= first < second <= 1")
    return schedule


Schedule = Annotated[tuple[float, float], AfterValidator(_check_rising)]


def scheduled(first: float, last: float | None, progress: float, schedule: tuple[float, float] = (0.0, 1.0)) -> float:
    """Value between `first` and `last`, linear between two shares of training; `first` throughout if `last` is None."""
    start, end = schedule
    return first if last is None else first + (last - first) * min(max((progress - start) / (end - start), 0.0), 1.0)


class LearnerSettings(BaseModel):
    """Settings of every learner."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="Name of the algorithm.")
    gamma: float = Field(
        0.99, gt=0, le=1, description="Discount γ of one action, however many simulated steps it is held."
    )
    lr_decay: bool = Field(False, description="Learning rates fall linearly to zero over training.")
    rollout_steps: int = Field(
        128, ge=1, le=100_000, description="Actions of each agent that each environment contributes to an iteration."
    )
    init_log_std: float = Field(
        -0.5,
        description="Initial log standard deviation of continuous actions, in units in which their bounds are ±1.",
    )
    init_mean: float = Field(
        0.0,
        description="Initial mean of continuous actions, in units in which their bounds are ±1. It must be 0 for "
        "discrete actions.",
    )
    max_grad_norm: float = Field(
        0.5,
        gt=0,
        description="Largest norm of an agent's gradient, or of the gradient of the parameters that all agents share.",
    )
    normalize_observations: bool = Field(
        False,
        description="Each agent normalizes its state, feature by feature, by the mean and standard deviation of the "
        "states it has seen.",
    )

    def lr_factor(self, progress: float) -> float:
        """Factor of the learning rates once `progress` in [0, 1) of training is done."""
        return 1 - progress if self.lr_decay else 1.0


class FeedforwardSettings(LearnerSettings):
    """Settings of learners whose policies have no memory."""

    lr_policy: float = Field(1e-3, gt=0, description="Learning rate of the policies.")
    lr_value: float = Field(1e-3, gt=0, description="Learning rate of the critics.")
    hidden_sizes: list[Width] = Field(
        [64, 64], max_length=8, description="Widths of the hidden layers of policies and critics."
    )
    share_parameters: bool = Field(
        False,
        description="All agents share one network. Each still sees nothing beyond its neighborhood. An input then "
        "belongs to a rank among the neighbors, in neighbor_order, and not to one of them.",
    )
    neighbor_order: Order = Field(
        "number",
        description="Order of the neighbors among a network's inputs. Nearer ones come first; equally near ones are "
        "ordered by number or cyclic, by their number counted on from the agent's own, modulo N. On loops, cyclic "
        "gives every agent the same neighbor, relative to its own position, in the same place, which is what a shared "
        "network needs.",
    )


class LocalitySettings(BaseModel):
    """Who is told of what, and what agents decide together."""

    end_hops: int | None = Field(
        None,
        ge=0,
        description="Hops within which agents are told that an agent's own state ended the episode. For the others a "
        "real episode was cut off, as by a time limit, and a model rollout goes on. null tells all agents, or, where "
        "strictly_local is true, the direct neighbors. Where nobody's own state was the end, all are told.",
    )
    strictly_local: bool = Field(
        False,
        description="Agents decide nothing together. Each stops fitting its model by its own validation loss, is told "
        "of ends within end_hops only, and improves its values on every batch of an iteration, however early policies "
        "elsewhere have stopped.",
    )

    @model_validator(mode="after")
    def _check_locality(self) -> Self:
        if self.strictly_local and getattr(self, "share_parameters", False):
            raise ValueError(
                "strictly_local = true is not possible where share_parameters = true gives all agents one network; "
                "leave one of them out"
            )
        return self

    def told_within(self) -> int | None:
        """Hops within which ends are told; None means all agents."""
        return 1 if self.strictly_local and self.end_hops is None else self.end_hops


class KappaSettings(LocalitySettings):
    """Range of a critic, and locality."""

    kappa: int = Field(
        3, ge=0, description="κ: hops within which a critic sees other agents and values are summed over them."
    )


class EntropySettings(BaseModel):
    """An entropy bonus, which keeps policies exploring."""

    entropy_coef: float = Field(0.0, ge=0, description="Weight of the entropy bonus at the start of training.")
    entropy_coef_final: float | None = Field(
        None,
        ge=0,
        description="Weight of the entropy bonus at the end of training, reached linearly. null keeps the first one.",
    )

    def entropy_coef_at(self, progress: float) -> float:
        """Weight of the entropy bonus once `progress` in [0, 1) of training is done."""
        return scheduled(self.entropy_coef, self.entropy_coef_final, progress)


class WarmUpSettings(BaseModel):
    """Data that are collected before anything is learned from them."""

    warm_up_steps: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Actions of each agent, summed over environments, that the untrained policy takes before it "
        "begins to learn. They count as training steps.",
    )
