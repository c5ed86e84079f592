"""Slots: a vehicle keeps its own, nobody waits while one is free, and who came first gets the first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from envs.traffic.slots import AgentSelection, Slots

#: Steps of traffic: how many learners and others enter, and which of those on the road leave, as shares of them all.
TRAFFIC = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.lists(st.floats(0, 0.999), max_size=3)), max_size=25
)


def kind(identity: str) -> str:
    return identity.split(".")[0]


@given(st.integers(1, 4), TRAFFIC)
def test_every_learner_has_a_slot_or_there_is_none_and_keeps_it_to_the_end(
    size: int, traffic: list[tuple[int, int, list[float]]]
) -> None:
    slots, on_road, entered = Slots(AgentSelection(type="learner", count=size)), list[str](), list[str]()
    served: list[str] = []
    for learners, others, leaving in traffic:
        left = {on_road[int(share * len(on_road))] for share in leaving if on_road}
        new = [f"learner.{len(entered) + k}" for k in range(learners)] + [f"human.{k}" for k in range(others)]
        entered += [identity for identity in new if kind(identity) == "learner"]
        on_road = [identity for identity in on_road if identity not in left] + new
        before = list(slots.ids)
        taken = slots.update(new, left, kind)
        served += taken
        present = [identity for identity in slots.ids if identity is not None]
        drivers = [identity for identity in on_road if kind(identity) == "learner"]
        assert set(present) <= set(drivers) and len(present) == len(set(present)) == min(size, len(drivers))
        for was, now in zip(before, slots.ids, strict=True):
            assert now == was or was in left or was is None
        assert [n > 0 for n in slots.numbers] == [identity is not None for identity in slots.ids]
        # A vehicle's number is its place in the row of those that ever had a slot.
        assert all(i is None or served[n - 1] == i for i, n in zip(slots.ids, slots.numbers, strict=True))
    # First come, first served; who left before its turn is passed over.
    assert served == [identity for identity in entered if identity in served]


def test_slots_beside_each_other_hold_vehicles_that_entered_one_after_the_other() -> None:
    slots = Slots(AgentSelection(type="learner", count=3))
    assert slots.update(["learner.a", "learner.b"], [], kind) == ["learner.a", "learner.b"]
    assert slots.update(["learner.c"], ["learner.a"], kind) == ["learner.c"]
    # The first slot is free, and not taken before its turn.
    assert slots.ids == [None, "learner.b", "learner.c"]
    slots.update(["learner.d"], [], kind)
    assert (slots.ids, slots.numbers) == (["learner.d", "learner.b", "learner.c"], [4, 2, 3])


def test_by_name_a_vehicle_has_its_own_slot_and_gets_it_again() -> None:
    slots = Slots(AgentSelection(ids=("x", "y")))
    assert slots.update(["z", "y"], [], kind) == ["y"]
    assert slots.ids == [None, "y"]
    slots.update(["x"], ["y"], kind)
    assert slots.ids == ["x", None]
    slots.update(["y"], [], kind)
    assert (slots.ids, slots.numbers) == (["x", "y"], [2, 3])


def test_a_vehicle_that_enters_and_leaves_in_one_step_gets_none() -> None:
    slots = Slots(AgentSelection(type="learner", count=2))
    assert slots.update(["learner.a"], ["learner.a"], kind) == []
    assert slots.ids == [None, None]


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        ({}, "give {type"),
        ({"count": 3}, "give {type"),
        ({"type": "a", "count": 1, "ids": ("b",)}, "ids and type exclude each other"),
        ({"ids": ("b", "c", "b")}, "'b' is there twice"),
        ({"ids": ()}, "at least 1 item"),
        ({"type": "a", "count": 0}, "greater than 0"),
    ],
)
def test_agents_are_a_type_and_a_number_or_names(agents: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AgentSelection.model_validate(agents)
