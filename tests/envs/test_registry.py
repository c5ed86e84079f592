"""Scenarios by name, hints for misspelt ones, and a package whose import starts nothing."""

from typing import Any

import numpy as np
import pytest

import envs
from graphs.spelling import hint
from tests.envs.helpers import SMALL, run_python


def test_the_scenarios_are_those_of_the_design() -> None:
    assert set(envs.names()) >= {"ring", "figure_eight", "cacc_catchup", "cacc_slowdown"}
    assert envs.names() == sorted(envs.names())


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("rnig", {}, "there is no scenario 'rnig'; did you mean 'ring'"),
        ("ring", {"num_vehicle": 8}, "there is no parameter of ring 'num_vehicle'; did you mean 'num_vehicles'"),
        ("figure_eight", {"ring_length": 230}, "there is no parameter of figure_eight 'ring_length'"),
        ("figure_eight", {"observation": "relativ"}, "there is no observation 'relativ'; did you mean 'relative'"),
        ("cacc_catchup", {"observation": "relative"}, r"no observation 'relative' \(there are: published"),
        ("cacc_catchup", {"mode": "test"}, "'train' or 'evaluate'"),
        ("cacc_catchup", {"target_speed": 15.0}, "'profile' or 'final'"),
        ("cacc_catchup", {"horizon": 0}, "greater than 0"),
        ("figure_eight", {"num_vehicles": 41}, "less than or equal to 40"),
        ("figure_eight", {"target_speed": float("inf")}, "finite number"),
        ("figure_eight", {"min_gap": float("inf")}, "finite number"),
        ("ring", {"min_gap": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_scenarios_are_refused_before_anything_starts(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        envs.make(name, **parameters)


def test_the_nearest_name_is_offered_only_where_one_is_near() -> None:
    assert hint("Horzon", ["horizon", "mode"]) == "; did you mean 'horizon'?"
    assert hint("color", ["horizon", "mode"]) == ""


@pytest.mark.parametrize("name", SMALL)
def test_a_scenarios_constant_actions_are_the_same_everywhere_all_the_time(name: str) -> None:
    space = envs.registry.scenario(name).spec(envs.parameters(name)(name=name)).action_space
    constants = envs.controllers.constants(name)
    assert constants
    for act in constants.values():
        actions = act(np.zeros((3, 5, 2), dtype=np.float32))
        assert actions.shape == (3, 5, *(space.shape or ()))
        assert len(np.unique(actions)) == 1
        assert space.contains(actions[0, 0].astype(space.dtype))
    actions = [float(act(np.zeros((1, 1, 2), dtype=np.float32)).item()) for act in constants.values()]
    assert len(set(actions)) == len(constants)


def test_an_environments_own_process_loads_neither_sumo_nor_torch() -> None:
    script = """
import sys
def heavy():
    heavy = {"libsumo", "traci", "sumo", "torch", "matplotlib", "pettingzoo"}
    return sorted({name.split(".")[0] for name in sys.modules} & heavy)
import envs
print(heavy())
if __name__ == "__main__":
    with envs.make("cacc_catchup", num_envs=1) as env:
        env.reset()
        env.step([[0] * 8])
        print(heavy())
"""
    seen = run_python("-c", script)
    assert (seen.stdout, seen.stderr) == ("[]\n[]\n", "")
