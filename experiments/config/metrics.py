"""Metrics of a run: every name in `metrics.jsonl` and in the logs, with its unit and meaning."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A metric; the unit is empty where it has none, as a share or a reward."""

    name: str
    unit: str
    meaning: str


_AGENTS = "A number behind it, as in .2, is an agent's own."

METRICS = (
    Metric("env_steps", "steps", "Simulated steps so far, of all environments together."),
    Metric("iteration", "", "Iterations so far."),
    Metric("wall_seconds", "s", "Time since the start, without pauses between a stop and a resumption."),
    Metric(
        "eval/reward",
        "",
        "Mean reward per simulated step of the horizon and agent, with each agent's most likely action. After an early "
        "end each step counts with what the scenario declares: 0 on loops, -1000 in the platoons.",
    ),
    Metric("eval/reward_sampled", "", "The same with actions drawn from the policies."),
    Metric("eval/return", "", "Sum of the same over the horizon, mean over agents and episodes."),
    Metric("eval/length", "steps", "Mean length of the episodes."),
    Metric("eval/collisions", "episodes", "Number of episodes with a collision."),
    Metric("eval/collisions_sampled", "episodes", "The same with actions drawn from the policies."),
    Metric("eval/speed", "m/s", "Mean speed of all vehicles up to the horizon, zero after a wreck."),
    Metric("eval/speed_final", "m/s", "The same in the last third before the horizon."),
    Metric("eval/speed_std", "m/s", "Standard deviation of the vehicles' speeds at one moment, mean over time."),
    Metric("eval/headway", "m", "Mean gap to the vehicle in front."),
    Metric("eval/headway_min", "m", "Smallest gap to the vehicle in front."),
    Metric("eval/acceleration", "m/s²", "Mean absolute acceleration."),
    Metric("eval/jerk", "m/s³", "Mean absolute rate of change of the acceleration."),
    Metric("eval/time_to_collision_min", "s", "Smallest time to collision; absent where no vehicle gains on another."),
    Metric("eval/throughput", "1/h", "Vehicles that pass a point of the road in an hour, up to the horizon."),
    Metric("eval/fuel", "g/km", "Fuel that a vehicle takes, by SUMO's emission model."),
    Metric("eval/co2", "g/km", "Carbon dioxide that a vehicle emits, by SUMO's emission model."),
    Metric("policy/train_reward", "", "Mean reward per simulated step and agent in the steps of an iteration."),
    Metric("policy/train_return", "", "Mean return of the training episodes that ended; absent where none did."),
    Metric("policy/train_episodes", "episodes", "Training episodes that ended in an iteration."),
    Metric("policy/gradient_steps", "", "Gradient steps that the policies took in an iteration, mean over agents."),
    Metric("policy/real_share", "", "Share of these gradient steps that were taken on real steps, in DMPO."),
    Metric("policy/inner_iterations", "", "Batches that DMPO improved on before the last policy stopped."),
    Metric("policy/loss", "", "Loss of the policies in SAC."),
    Metric("policy/entropy", "nats", "Mean entropy of the policies."),
    Metric("policy/kl", "nats", "KL divergence from the policies that a batch began with, mean over agents."),
    Metric("policy/kl_max", "nats", "The same of the agent whose policy moved farthest."),
    Metric("policy/total_kl", "nats", "KL divergence from the policies that collected the last real steps, in DMPO."),
    Metric("policy/kl_stopped", "", "Share of the agents that stopped early because of their KL divergence."),
    Metric("policy/clip_fraction", "", "Share of the probability ratios outside PPO's clipping range."),
    Metric("policy/temperature", "", "Temperature α of SAC, mean over agents."),
    Metric("value/loss", "", "Loss of the value functions, on normalized targets."),
    Metric("value/mean", "", "Mean value of the states of a batch, before the update."),
    Metric("value/explained_variance", "", "Share of the returns' variance that the values explain."),
    Metric("model/gradient_steps", "", "Gradient steps of the models in an iteration."),
    Metric("model/validation_loss", "", "Loss on validation episodes of the models that a fit keeps."),
    Metric("model/state_error", "", f"Squared error of the next state over the states' variance, held out. {_AGENTS}"),
    Metric("model/change_error", "", f"Squared error of the next state over the changes' variance. {_AGENTS}"),
    Metric("model/reward_error", "", f"Squared error of the reward over the rewards' variance. {_AGENTS}"),
    Metric("model/open_loop_error.K", "", "Error of the state after K steps in the models with recorded actions."),
    Metric("model/held_out_ends", "", "Held-out steps of agents in which the agent's own state ended the episode."),
    Metric("model/end_precision", "", "Share of the ends that models see in held-out steps that are real."),
    Metric("model/end_recall", "", "Share of the real ends in held-out steps that models see."),
    Metric("model/end_rate_ratio", "", "Held-out steps that end by any agent's state in the models, over real ones."),
    Metric("model/share", "", "Share of an iteration's batches that is planned to come from the models."),
    Metric("model/horizon", "actions", "Length of the rollouts in the models."),
    Metric("comm/bytes_per_agent_step", "bytes", "What an agent receives for an action, while acting."),
    Metric("comm/training_bytes_per_agent_step", "bytes", "What an agent receives for an action, for training."),
    Metric("comm/consensus_bytes_per_agent_step", "bytes", "What an agent receives for an action, in consensus steps."),
    Metric("comm/model_fit_bytes_per_agent_step", "bytes", "What an agent receives for an action, to fit its model."),
    Metric("comm/gate_open", "", "Share of the steps in which an agent's gate is open in IC3Net."),
    Metric("time/act_seconds", "s", "Time that an iteration spends on choosing actions."),
    Metric("time/env_seconds", "s", "Time that an iteration waits for the environments."),
    Metric("time/update_seconds", "s", "Time that an iteration spends on learning."),
    Metric("time/env_steps_per_second", "1/s", "Simulated steps per second of training, evaluations left out."),
    Metric(
        "time/env_restarts", "", "SUMO processes replaced so far, because they died or hung; absent while none was."
    ),
)


def find(name: str) -> Metric | None:
    """The metric that a logged name belongs to, such as `model/open_loop_error.3`; None of an unknown name."""
    stem = name.partition(".")[0]
    return next((metric for metric in METRICS if metric.name.partition(".")[0] == stem), None)
