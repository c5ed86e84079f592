from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from experiments.config.json_schema import Schema


def allowed(annotation: Any) -> str:
    schema = Schema(create_model("M", x=(annotation, ...)).model_json_schema())
    return schema.allowed(schema.subschema(["x"], {}) or {})


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Annotated[int, Field(ge=0)], "a whole number of at least 0"),
        (Annotated[int, Field(ge=1, le=1000)], "a whole number from 1 to 1,000"),
        (Annotated[int, Field(gt=0, le=1000)], "a whole number from 1 to 1,000"),
        (Annotated[int, Field(gt=0)], "a whole number of at least 1"),
        (Annotated[int, Field(ge=2, multiple_of=2)], "a whole number of at least 2, a multiple of 2"),
        (Annotated[float, Field(gt=0, le=1)], "a number above 0 and of at most 1"),
        (Annotated[float, Field(lt=3)], "a number below 3"),
        (float | None, "a number or null"),
        (bool, "true or false"),
        (str, "text"),
        (Annotated[str, Field(pattern="^a$", max_length=9)], "text of the form ^a$ of at most 9 characters"),
        (Literal["a", "b"], "a or b"),
        (Literal["a", 1, True, None], "a or 1 or true or null"),
        (list[int], "a list, each a whole number"),
        (Annotated[list[int], Field(min_length=1)], "a list, each a whole number, at least 1"),
        (Annotated[list[int], Field(max_length=8)], "a list, each a whole number, at most 8 of them"),
        (int | tuple[int, float], "a whole number or a list [a whole number, a number]"),
        (dict[str, int], "a mapping of keys"),
        (None, "null"),
        (Any, "any value"),
    ],
)
def test_what_is_allowed_is_said_in_words(annotation: Any, words: str) -> None:
    assert allowed(annotation) == words


class Cat(BaseModel):
    name: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    age: int
    name: Literal["dog"]


class Home(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="name")] | None
    pets: list[Cat] = []


SCHEMA = Schema(Home.model_json_schema())


def test_a_name_decides_which_keys_there_are() -> None:
    assert SCHEMA.keys(["pet"], {"pet": {"name": "cat"}}) == ["name", "lives"]
    assert SCHEMA.keys(["pet"], {"pet": {"name": "dog"}}) == ["name", "age"]
    assert SCHEMA.keys(["pet"], {"pet": {}}) == []
    assert SCHEMA.names(["pet"]) == ["cat", "dog"]
    assert SCHEMA.names(["pets"]) == []


def test_a_choice_by_name_is_said_shortly() -> None:
    words = SCHEMA.allowed(SCHEMA.subschema(["pet"], {}) or {})
    assert words == "a mapping {name: …} with one of the names cat, dog or null"


def test_a_path_leads_through_lists() -> None:
    data = {"pets": [{"name": "cat", "lives": "x"}]}
    assert SCHEMA.allowed(SCHEMA.subschema(["pets", 0, "lives"], data) or {}) == "a whole number"
    assert SCHEMA.subschema(["pets", 0, "none"], data) is None


def test_every_place_of_a_key_is_known() -> None:
    assert {("pet", "lives"), ("pet", "age"), ("pet",)} <= set(SCHEMA.paths)
