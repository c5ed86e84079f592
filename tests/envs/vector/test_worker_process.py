"""A SUMO that dies or hangs costs its own episodes and nothing else, and no process outlives its environment."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs
from envs.traffic.platoon import Catchup, CatchupParameters
from envs.vector import worker_process
from tests.envs.helpers import Array, assert_same, begin, pids, play, random_actions, rows, run_python, small
from tests.faults import environment

FAULTS = {"dies": signal.SIGKILL, "hangs": signal.SIGSTOP}


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Array, dict[str, Array]]:
    """Actions, and the episodes of four environments that nothing happens to."""
    with small("cacc_catchup", num_envs=4, workers=2, seed=1) as env:
        actions = random_actions(env, 100)
        begin(env)
        return actions, play(env, actions)


@pytest.fixture
def env() -> Iterator[envs.VectorEnv]:
    """The same four environments, to be disturbed."""
    with small("cacc_catchup", num_envs=4, workers=2, seed=1) as env:
        yield env


@pytest.mark.parametrize("fault", FAULTS)
def test_episodes_of_a_worker_that_fails_are_truncated_and_the_others_go_on(
    env: envs.VectorEnv, undisturbed: tuple[Array, dict[str, Array]], fault: str
) -> None:
    actions, expected = undisturbed
    begin(env)
    before = play(env, actions[:20])
    os.kill(pids(env)[1], FAULTS[fault])
    if fault == "hangs":
        # Longer than a worker takes to start on a busy machine.
        env._workers[1].worker_timeout = 10.0
    lost = play(env, actions[20:21])
    after = play(env, actions[21:])

    for seen, part in ((before, slice(20)), (lost, slice(20, 21)), (after, slice(21, None))):
        assert_same(rows(seen, [0, 1]), rows({key: array[part] for key, array in expected.items()}, [0, 1]))
    assert lost["truncated"][0].tolist() == [False, False, True, True]
    assert not lost["terminated"].any() and not lost["collision"].any() and not lost["ended_by"].any()
    np.testing.assert_array_equal(lost["reward"][0, 2:], 0.0)
    np.testing.assert_array_equal(lost["final_obs"][0, 2:], before["obs"][-1, 2:])
    # New episodes: everybody at 15 m/s, and all the time there is.
    np.testing.assert_array_equal(lost["obs"][0, 2:, :, 0], 0.0)
    assert np.flatnonzero(after["truncated"][:, 2]).tolist() == [59]
    info = env.step(actions[0])[4]
    assert env.restarts == info["restarts"] == 1
    assert not info["lost"].any()


def test_a_new_worker_does_not_repeat_the_episodes_of_the_old(env: envs.VectorEnv) -> None:
    first = begin(env)
    os.kill(pids(env)[1], signal.SIGKILL)
    again, *_, info = env.step(np.zeros((4, 8)))
    assert info["lost"].tolist() == [False, False, True, True]
    assert (again[2:, 0] != first[2:, 0]).any(axis=-1).all()


def test_a_worker_that_dies_between_calls_is_replaced_in_a_reset_or_a_restored_state(env: envs.VectorEnv) -> None:
    actions = random_actions(env, 20)
    first = begin(env, seed=3)
    saved = {key: array.copy() for key, array in env.get_state().items()}
    expected = play(env, actions)
    os.kill(pids(env)[0], signal.SIGKILL)
    np.testing.assert_array_equal(begin(env, seed=3), first)
    # No episode was lost on the way that a step would have to report.
    assert_same(play(env, actions), expected)
    os.kill(pids(env)[1], signal.SIGKILL)
    env.set_state(saved)
    assert_same(play(env, actions), expected)
    assert env.restarts == 2


def test_a_worker_that_fails_again_and_again_is_given_up(env: envs.VectorEnv) -> None:
    begin(env)
    os.kill(pids(env)[0], signal.SIGKILL)
    # Nothing starts within a millisecond.
    env._workers[0].worker_timeout = 1e-3
    with pytest.raises(
        envs.SimulationError,
        match=r"worker-0 has not answered for worker_timeout = 0.001; it was started again 3 times in a row",
    ):
        env.step(np.zeros((4, 8)))
    assert env.restarts >= 3


def test_closing_leaves_no_process(env: envs.VectorEnv) -> None:
    mine = {child.pid for child in multiprocessing.active_children()}
    assert set(pids(env)) <= mine
    gone = pids(env)
    env.close()
    assert not {child.pid for child in multiprocessing.active_children()} & set(gone)


def test_a_failing_start_leaves_no_process() -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    parameters = CatchupParameters()
    with pytest.raises(envs.SimulationError, match="the simulation failed: OSError: no road today"):
        envs.VectorEnv(Broken, parameters, num_envs=2, workers=2)
    assert {child.pid for child in multiprocessing.active_children()} == before


class Broken(Catchup):
    """A platoon whose simulation cannot be built."""

    def __init__(self, *arguments: Any) -> None:
        raise OSError("no road today")


ORPHANS = """
import os, signal
import envs

if __name__ == "__main__":
    env = envs.make("cacc_catchup", num_envs=2, workers=2)
    env.reset()
    {busy}
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("busy", ["pass", "env._workers[0].ask('step')"])
def test_workers_end_when_their_environments_process_is_killed(busy: str) -> None:
    # This returns when the last process that inherited its output has gone.
    result = run_python("-c", ORPHANS.format(busy=busy))
    assert result.stdout == "killed\n"
    assert result.returncode == -signal.SIGKILL


STEPS = """
import os
import envs

if __name__ == "__main__":
    with envs.make("cacc_catchup", num_envs=1) as env:
        env.reset()
        env._workers[0].worker_timeout = 3.0
        print(env._workers[0].process.pid, flush=True)
        for _ in range(100_000):
            env.step([[0] * 8])
            if os.path.exists({file!r}):
                break
        print(env.restarts)
"""


def test_a_terminal_that_stops_all_processes_for_a_while_is_no_hang(tmp_path: Path) -> None:
    code = STEPS.format(file=str(tmp_path / "enough"))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.3)  # by now the other one waits for it
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3.5)
        for pid in (process.pid, child):
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)
        (tmp_path / "enough").touch()
        assert process.stdout.readline() == "0\n"


@pytest.mark.parametrize(
    ("away", "comes", "looks"),
    [
        (1e-5, 1, 1),  # the command is there already
        (1e-5, 5, 5),
        (1e-5, None, 100),  # awake for a millisecond
        (1e-4, None, 1),  # somebody else has used the core
    ],
)
def test_a_worker_stays_awake_for_a_while_and_gives_up_its_core_to_others(
    monkeypatch: pytest.MonkeyPatch, away: float, comes: int | None, looks: int
) -> None:
    clock, looked = [0.0], []

    class Asked:
        def poll(self, timeout: int) -> bool:
            assert timeout == 0  # that would be sleep
            looked.append(clock[0])
            return len(looked) == comes

    def lend() -> None:
        clock[0] += away

    monkeypatch.setattr(worker_process, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(os, "sched_yield", lend)
    worker_process.stay_awake(Asked(), worker_process.AWAKE_SECONDS)  # type: ignore[arg-type]
    assert len(looked) == pytest.approx(looks, rel=0.02)
    assert (clock[0] < worker_process.AWAKE_SECONDS) == (comes is not None or away > worker_process.LENT_SECONDS)
