import subprocess
import sys

import networkx as nx
import pytest
from pydantic import BaseModel

import dmpo
from tests.dmpo.environment import PointMasses


@pytest.mark.parametrize("name", dmpo.names())
def test_every_algorithm_has_settings_with_defaults_and_its_own_name(name: str) -> None:
    settings = dmpo.settings(name)()
    assert settings.model_dump()["name"] == name


@pytest.mark.parametrize("name", dmpo.names())
def test_every_algorithm_makes_a_learner_that_acts(name: str) -> None:
    env = PointMasses()
    learner = dmpo.make_learner(dmpo.settings(name)(), env.graph, env.observation_space, env.action_space, seed=1)
    assert learner.act(env.reset(seed=0)[0]).shape == (4, 3, 1)


def test_an_unknown_algorithm_is_refused_with_those_there_are() -> None:
    class Foreign(BaseModel):
        name: str = "dpo"

    env = PointMasses()
    with pytest.raises(
        ValueError,
        match=r"'dpo' is not known\. Did you mean 'dppo'\? Known: cppo, dmpo, dmpo_sac, dppo, dsac, ia2c, ic3net\.",
    ):
        dmpo.make_learner(Foreign(), env.graph, env.observation_space, env.action_space)
    with pytest.raises(ValueError, match="Known"):
        dmpo.settings("dpo")


def test_observations_that_are_not_a_row_of_numbers_are_refused() -> None:
    env = PointMasses()
    with pytest.raises(ValueError, match="observation_space"):
        dmpo.make_learner(dmpo.DPPOSettings(), nx.path_graph(3), env.action_space.__class__(0, 1, ()), env.action_space)


def test_importing_is_light() -> None:
    heavy = ("libsumo", "traci", "sumo", "envs", "experiments", "matplotlib")
    program = f"import sys, dmpo; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
