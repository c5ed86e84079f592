import subprocess
import sys
from typing import Literal

import networkx as nx
import pytest

import dmpo
from dmpo import DPPOSettings, Setup, registry
from dmpo.algorithms.dppo import DPPO
from tests.dmpo.environment import PointMasses


@pytest.mark.parametrize("name", dmpo.names())
def test_every_algorithm_has_settings_with_defaults_and_its_own_name(name: str) -> None:
    settings = dmpo.settings_of(name)()
    assert settings.model_dump()["name"] == name


@pytest.mark.parametrize("name", dmpo.names())
def test_every_algorithm_makes_a_learner_that_acts(name: str) -> None:
    env = PointMasses()
    learner = dmpo.make_learner(dmpo.settings_of(name)(), env.graph, env.observation_space, env.action_space, seed=1)
    assert learner.act(env.reset(seed=0)[0]).shape == (4, 3, 1)


def test_an_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    env = PointMasses()
    known = "cppo, dmpo, dmpo_sac, dppo, dsac, ia2c, ic3net"
    with pytest.raises(ValueError, match=rf"no algorithm 'dpo'; did you mean 'dppo'\? \(there are: {known}\)"):
        dmpo.make_learner(DPPOSettings.model_construct(name="dpo"), env.graph, env.observation_space, env.action_space)
    with pytest.raises(ValueError, match="no algorithm 'dpo'"):
        dmpo.settings_of("dpo")


def test_observations_that_are_not_a_row_of_numbers_are_refused() -> None:
    env = PointMasses()
    with pytest.raises(ValueError, match="observation_space"):
        dmpo.make_learner(DPPOSettings(), nx.path_graph(3), env.action_space.__class__(0, 1, ()), env.action_space)


class AnnealedSettings(DPPOSettings):
    name: Literal["annealed"] = "annealed"  # type: ignore[assignment]


class Annealed(DPPO):
    Settings = AnnealedSettings


@pytest.fixture
def _registry_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._algorithms, "_entries", dict(registry._algorithms._entries))


@pytest.mark.usefixtures("_registry_restored")
def test_a_learner_registered_from_outside_is_made_by_its_name() -> None:
    assert dmpo.register("annealed")(Annealed) is Annealed
    assert "annealed" in dmpo.names() and dmpo.settings_of("annealed") is AnnealedSettings
    env = PointMasses()
    learner = dmpo.make_learner(AnnealedSettings(), env.graph, env.observation_space, env.action_space, seed=1)
    assert type(learner) is Annealed
    assert learner.setup == Setup(env.graph, env.observation_space, env.action_space, seed=1)


@pytest.mark.usefixtures("_registry_restored")
def test_a_taken_name_is_refused_and_the_same_class_once_more_is_not() -> None:
    class OtherSettings(DPPOSettings):
        name: Literal["dppo"] = "dppo"

    class Other(DPPO):
        Settings = OtherSettings

    with pytest.raises(ValueError, match="two algorithms are called 'dppo'"):
        dmpo.register("dppo")(Other)
    assert dmpo.settings_of("dppo") is DPPOSettings
    dmpo.register("dppo")(DPPO)


@pytest.mark.usefixtures("_registry_restored")
@pytest.mark.parametrize("name", ["annealed_ppo", "dppo"])
def test_a_class_whose_settings_do_not_say_its_name_is_refused(name: str) -> None:
    class Nameless:
        pass

    for kind in (Annealed, Nameless):
        with pytest.raises(ValueError, match=f"'{name}' needs an attribute Settings, a subclass of LearnerSettings"):
            dmpo.register(name)(kind)
    assert "annealed_ppo" not in dmpo.names()


def modules_after(program: str, names: tuple[str, ...]) -> list[str]:
    """Those of some modules that a fresh process has loaded once it has run a program."""
    program = f"{program}; import sys; print(*[name for name in {names} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_importing_is_light() -> None:
    heavy = ("libsumo", "traci", "sumo", "envs", "experiments", "matplotlib", "torch_geometric")
    assert modules_after("import dmpo", heavy) == []


@pytest.mark.parametrize(("name", "loaded"), [("dppo", []), ("dmpo", ["torch_geometric"])])
def test_torch_geometric_is_loaded_once_a_learner_with_models_is_made(name: str, loaded: list[str]) -> None:
    program = (
        "import dmpo, gymnasium, networkx; box = gymnasium.spaces.Box(-1, 1, (2,)); "
        f"dmpo.make_learner(dmpo.settings_of('{name}')(), networkx.path_graph(2), box, box)"
    )
    assert modules_after(program, ("torch_geometric",)) == loaded
