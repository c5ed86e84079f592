import os

import pytest

import envs
from envs.vector.worker import cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are bound to cores on Linux")


@pytest.mark.parametrize(
    ("own", "workers", "expected"),
    [
        ({3, 5}, 2, [3, 5]),
        ({3, 5}, 4, [3, 5, 3, 5]),
        ({3, 5}, 1, [None]),
        ({3, 5}, 3, [None, None, None]),
        ({0}, 2, [None, None]),
    ],
)
def test_workers_stay_on_cores_where_all_have_equally_many(monkeypatch, own, workers, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: own)
    assert cores(workers) == expected


def test_a_worker_runs_on_its_core_also_after_it_was_started_again():
    everything = os.sched_getaffinity(0)
    own = sorted(everything)[:2]
    os.sched_setaffinity(0, own)
    try:
        with envs.make("cacc_catchup", num_envs=len(own), workers=len(own)) as env:
            env.reset()
            env._workers[0].restart()
            found = [os.sched_getaffinity(worker.process.pid) for worker in env._workers]
    finally:
        os.sched_setaffinity(0, everything)
    assert found == ([{core} for core in own] if len(own) > 1 else [set(own)])
