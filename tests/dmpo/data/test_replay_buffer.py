import pytest
import torch

from dmpo.collector import Collector
from dmpo.data.replay_buffer import ReplayBuffer, Role, trajectories
from tests.dmpo.environment import STEP, PointMasses
from tests.dmpo.learners import learner_for

E, T = 6, 12


def filled(holdout: float = 0.3, capacity: int = 10_000, batches: int = 3, horizon: int = 5) -> ReplayBuffer:
    env = PointMasses(num_envs=E, horizon=horizon)
    collector = Collector(env, learner_for(env, rollout_steps=T), seed=0)
    buffer = ReplayBuffer(capacity, holdout, "cpu")
    for _ in range(batches):
        buffer.add(collector.collect()[0])
    return buffer


def filled_with(seeds: list[int], capacity: int) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, 0.0, "cpu")
    for seed in seeds:
        env = PointMasses(num_envs=E, horizon=5)
        buffer.add(Collector(env, learner_for(env, rollout_steps=T), seed=seed).collect()[0])
    return buffer


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_sequence_lies_within_one_episode(steps: int) -> None:
    sequences = filled().sequences(steps, Role.TRAINING).everything()
    # A point mass moves by its speed, so that a sequence across two episodes would jump.
    states = torch.cat([sequences.states.unsqueeze(0), sequences.next_states])  # (H+1, N, B, D)
    torch.testing.assert_close(states[1:, ..., 0] - states[:-1, ..., 0], STEP * states[1:, ..., 1])
    assert sequences.states.shape[1] > 0


def test_the_last_step_of_an_episode_leads_to_its_own_last_state() -> None:
    env = PointMasses(num_envs=E, horizon=5)
    batch, _ = Collector(env, learner_for(env, rollout_steps=T), seed=0).collect()
    found = trajectories(batch)
    index = batch.final_index
    next_states = found.next_states.transpose(0, 1).flatten(0, 1)
    assert torch.equal(next_states[index], batch.final_observations)
    others = torch.ones(T * E, dtype=torch.bool).index_fill(0, index, False)
    assert torch.equal(next_states[others], batch.observations[1:].flatten(0, 1)[others])


def test_every_step_has_one_role() -> None:
    buffer = filled()
    parts = [buffer.sequences(1, role).everything().states.transpose(0, 1) for role in Role]
    assert sum(map(len, parts)) == 3 * T * E and all(map(len, parts))
    kept = [{tuple(row.flatten().tolist()) for row in part} for part in parts]
    assert not kept[0] & kept[1] and not kept[0] & kept[2] and not kept[1] & kept[2]


@pytest.mark.parametrize("environments", [1, 4, 6])
def test_an_episode_keeps_its_role_across_batches(environments: int) -> None:
    env = PointMasses(num_envs=environments, horizon=5)
    collector, buffer = Collector(env, learner_for(env, rollout_steps=7), seed=0), ReplayBuffer(10_000, 0.5, "cpu")
    ended = []
    for _ in range(30):
        batch = collector.collect()[0]
        buffer.add(batch)
        ended.append((batch.terminated.any(-1) | batch.truncated).T.clone())  # (E, T)
    roles, over = torch.cat([r for _, r in buffer.state_dict()["batches"]], 1), torch.cat(ended, 1)
    within = ~over[:, :-1]
    assert torch.equal(roles[:, 1:][within], roles[:, :-1][within])
    assert not torch.equal(roles[:, 1:][~within], roles[:, :-1][~within])


@pytest.mark.parametrize("environments", [1, 4])
@pytest.mark.parametrize("holdout", [0.1, 0.125, 0.4])
def test_half_of_the_holdout_validates_and_half_tests(holdout: float, environments: int) -> None:
    env = PointMasses(num_envs=environments, horizon=4)
    learner = learner_for(env, rollout_steps=400)
    buffer = ReplayBuffer(10_000, holdout, "cpu")
    buffer.add(Collector(env, learner, seed=0).collect()[0])
    counts = [len(buffer.sequences(1, role)) / (400 * environments) for role in Role]
    assert counts == pytest.approx([1 - holdout, holdout / 2, holdout / 2], abs=0.03)


def test_a_single_environment_holds_something_out_soon() -> None:
    env = PointMasses(num_envs=1, horizon=4)
    buffer = ReplayBuffer(10_000, 0.125, "cpu")
    buffer.add(Collector(env, learner_for(env, rollout_steps=4 * 12), seed=0).collect()[0])
    assert all(len(buffer.sequences(1, role)) for role in Role)


def test_nothing_is_held_out_where_the_share_is_zero() -> None:
    env = PointMasses(num_envs=E, horizon=1000)
    buffer = ReplayBuffer(1000, 0.0, "cpu")
    buffer.add(Collector(env, learner_for(env, rollout_steps=T), seed=0).collect()[0])
    assert len(buffer.sequences(1, Role.VALIDATION)) == 0
    assert len(buffer.sequences(1, Role.TRAINING)) == T * E


def test_lost_steps_are_in_no_sequence() -> None:
    env = PointMasses(num_envs=E, horizon=1000)
    batch, _ = Collector(env, learner_for(env, rollout_steps=T), seed=0).collect()
    batch.valid[4, :] = False
    buffer = ReplayBuffer(1000, 0.0, "cpu")
    buffer.add(batch)
    for steps in (1, 3):
        sequences = buffer.sequences(steps, Role.TRAINING)
        assert {s % T for s in sequences.starts.tolist()} == {t for t in range(T - steps + 1) if not t <= 4 < t + steps}


def test_the_oldest_go_first() -> None:
    latest = filled(capacity=2 * T * E, batches=3).state_dict()["batches"]
    every = filled(batches=3).state_dict()["batches"]
    assert len(latest) == 2
    for (kept, _), (expected, _) in zip(latest, every[1:], strict=True):
        assert torch.equal(kept["states"], expected["states"])


def test_new_steps_replace_the_oldest_and_no_others() -> None:
    many = [filled_with(numbers, capacity=250) for numbers in ([0, 1, 2, 3, 4, 5, 6], [4, 5, 6])]
    many.append(filled_with([], capacity=250))
    many[-1].load_state_dict(many[0].state_dict())
    for steps in (1, 3):
        latest, alone, restored = (buffer.sequences(steps, Role.TRAINING).everything() for buffer in many)
        for name, expected in vars(alone).items():
            assert torch.equal(getattr(latest, name), expected)
            assert torch.equal(getattr(restored, name), expected)


def test_batches_of_other_sizes_never_overlap() -> None:
    env = PointMasses(num_envs=E, horizon=5)
    buffer, counts = ReplayBuffer(200, 0.0, "cpu"), []
    for steps in (12, 20, 7, 30, 50, 3, 12):
        buffer.add(Collector(env, learner_for(env, rollout_steps=steps), seed=steps).collect()[0])
        sequences = buffer.sequences(2, Role.TRAINING).everything()
        states = torch.cat([sequences.states.unsqueeze(0), sequences.next_states])
        torch.testing.assert_close(states[1:, ..., 0] - states[:-1, ..., 0], STEP * states[1:, ..., 1])
        counts.append(len(buffer.sequences(1, Role.TRAINING)))
    assert counts[:2] == [12 * E, 32 * E]
    assert counts[4] == 50 * E  # more than fits, alone
    assert all(count <= max(200, 50 * E) for count in counts)
