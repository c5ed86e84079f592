"""Pieces: what they read of the vehicles in the slots, and what happens to values that are no use."""

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.sumo.simulation import Floats
from envs.traffic import pieces
from envs.traffic.pieces import LOOK_AHEAD, AgentVehicles, Pieces


class Road:
    """Stands for libsumo: vehicles by name with a speed, and perhaps who is how far in front of them."""

    def __init__(self, speeds: dict[str, float], leaders: dict[str, tuple[str, float]] | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.vehicle = SimpleNamespace(
            getSpeed=self._counted("getSpeed", speeds.__getitem__),
            getAcceleration=self._counted("getAcceleration", lambda identity: -2.0),
            getMinGap=lambda identity: 2.5,
            getLeader=lambda identity, distance: (leaders or {}).get(identity, ("", -1.0)),
        )

    def _counted(self, name: str, function: Any) -> Any:
        def call(identity: str) -> float:
            self.calls[name] += 1
            return float(function(identity))

        return call


def on(road: Road, ids: Sequence[str | None], colliding: Sequence[str] = ()) -> AgentVehicles:
    vehicles = AgentVehicles(road, target_speed=10.0)
    vehicles.update(ids, colliding)
    return vehicles


SPEEDS = {"a": 4.0, "b": 10.0, "c": 30.0}


def test_a_value_is_divided_by_its_scale_and_an_empty_slot_is_zero() -> None:
    known = Pieces("piece of a test")
    known.register("speed", scale=2.0)(lambda vehicles: vehicles.read("getSpeed"))
    known.register("seven")(lambda vehicles: np.full(3, 7.0))
    vehicles = on(Road(SPEEDS), ["b", None, "a"])
    assert known.read("speed", vehicles).tolist() == [5.0, 0.0, 2.0]
    assert known.read("seven", vehicles).tolist() == [7.0, 0.0, 7.0]


def test_sumo_is_asked_once_a_step_and_vehicle() -> None:
    road = Road(SPEEDS)
    vehicles = on(road, ["a", None, "c"])
    for _ in range(3):
        vehicles.read("getSpeed")
    assert road.calls["getSpeed"] == 2
    vehicles.update(["b", "b", "b"], ())
    assert vehicles.read("getSpeed").tolist() == [10.0] * 3
    assert road.calls["getSpeed"] == 5


def test_the_gap_is_from_bumper_to_bumper_and_ends_with_the_sight() -> None:
    road = Road(SPEEDS, {"a": ("c", 7.0), "b": ("a", LOOK_AHEAD - 1.0)})
    vehicles = on(road, ["a", "b", "c", None])
    assert vehicles.gap.tolist() == [9.5, LOOK_AHEAD, LOOK_AHEAD, LOOK_AHEAD]
    assert vehicles.front_speed.tolist() == [30.0, 4.0, 30.0, 0.0]  # the own one where nobody is in sight
    assert pieces.observations.read("relative_speed", vehicles).tolist() == [2.6, -0.6, 0.0, 0.0]


def test_a_reward_is_the_sum_of_its_pieces_by_their_weights() -> None:
    vehicles = on(Road(SPEEDS, {"b": ("c", 2.5)}), ["a", "b", None, "c"], colliding=["c"])
    weights = {"speed_towards_target": 2.0, "acceleration_cost": -0.5, "headway_cost": 3.0, "collision": -7.0}
    parts = [weight * pieces.rewards.read(name, vehicles) for name, weight in weights.items()]
    np.testing.assert_array_equal(pieces.weighted(weights, vehicles), np.sum(parts, axis=0))
    # The target is 10 m/s; b is half a second behind c.
    assert [part.tolist() for part in parts] == [[0.8, 2, 0, 0], [-1, -1, 0, -1], [0, 1.5, 0, 0], [0, 0, 0, -7]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), r"gave shape \(3,\); \(N,\) = \(2,\) is needed"),
        (np.array([0.0, np.inf]), "gave inf; finite numbers are needed"),
        (np.array([np.nan, 0.0]), "gave nan; finite numbers are needed"),
    ],
)
def test_a_piece_that_gives_no_number_a_slot_is_named(value: Floats, message: str) -> None:
    known = Pieces("piece of a test")
    known.register("mine")(lambda vehicles: value)
    with pytest.raises(ValueError, match=f"the piece of a test 'mine' {message}"):
        known.read("mine", on(Road(SPEEDS), ["a", "b"]))


def test_what_there_is_not_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="no reward piece 'fule'; did you mean 'fuel'"):
        pieces.rewards.check(["fule"])
    with pytest.raises(ValueError, match=r"no function of libsumo.vehicle 'getSped'; did you mean 'getSpeed'"):
        on(Road(SPEEDS), ["a"]).read("getSped")
