"""Registries: names that are taken, names that are unknown, and classes that do not say their parameters."""

from typing import Literal

import pytest
from pydantic import BaseModel

from graphs.registration import Registry


class Parameters(BaseModel):
    """Base of all parameters."""

    name: str


class WaveParameters(Parameters):
    """Parameters of a class."""

    name: Literal["wave"] = "wave"


class Wave:
    """Class with parameters."""

    Parameters = WaveParameters


class Pulse(Wave):
    """Another class, with the parameters of the first."""


def test_two_of_one_name_are_refused_but_a_reloaded_one_replaces_itself() -> None:
    registry: Registry[type[Wave]] = Registry("wave", Parameters)
    assert registry.register("wave")(Wave) is Wave
    reloaded = type("Wave", (Wave,), {"__module__": Wave.__module__, "__qualname__": "Wave"})
    registry.register("wave")(reloaded)
    with pytest.raises(ValueError, match=r"two waves are called 'wave', .*\.Wave and .*\.Pulse; register yours under"):
        registry.register("wave")(Pulse)
    assert registry.get("wave") is reloaded
    assert registry.names() == ["wave"]


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all() -> None:
    registry: Registry[type[Wave]] = Registry("wave")
    with pytest.raises(ValueError, match=r"there is no wave 'wavy' \(there are none\)"):
        registry.get("wavy")
    for name in ("wave", "pulse"):
        registry.register(name)(Wave)
    with pytest.raises(ValueError, match=r"no wave 'wavy'; did you mean 'wave'\? \(there are: pulse, wave\)"):
        registry.get("wavy")


@pytest.mark.parametrize("new", [Wave, Parameters])
def test_a_class_must_say_its_parameters_under_its_name(new: type) -> None:
    registry: Registry[type] = Registry("wave", Parameters)
    with pytest.raises(
        ValueError, match=r"'mine' needs an attribute Parameters, .*name: Literal\[\"mine\"\] = \"mine\""
    ):
        registry.register("mine")(new)
    assert registry.names() == []


def test_modules_outside_the_project_are_collected_in_the_order_of_registration() -> None:
    modules: dict[str, None] = {}
    registry: Registry[type[Wave]] = Registry("wave", modules=modules)
    for number, module in enumerate(["mine.late", "dmpo.learner", "mine.early", "mine.late"]):
        registry.register(f"wave{number}")(type("Wave", (Wave,), {"__module__": module}))
    assert list(modules) == ["mine.late", "mine.early"]
