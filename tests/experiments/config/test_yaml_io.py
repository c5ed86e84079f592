import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config.loading import read_file
from experiments.config.yaml_io import MAX_BYTES, dump, parse_overrides, read_text
from experiments.errors import ConfigError

BILLION_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def message(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read_text(text, "f.yaml")
    return str(refused.value)


def test_numbers_are_those_of_yaml_1_2() -> None:
    text = "a: 1e-3\nb: 4e5\nc: 200_000\nd: .5\ne: 007\nf: -1.5E+2\ng: 3.0\nh: 1e16\ni: 1.5e3"
    read = read_text(text, "f.yaml")
    assert read == {"a": 1e-3, "b": 400_000, "c": 200_000, "d": 0.5, "e": 7, "f": -150, "g": 3.0, "h": 1e16, "i": 1500}
    assert [type(read[key]) for key in "abcghi"] == [float, int, int, float, float, int]


def test_words_that_yaml_1_1_would_take_for_something_else_are_text() -> None:
    words = ["no", "yes", "on", "1:30", "2024-01-01", "0x1f", "1.2.3"]
    assert read_text(f"a: [{', '.join(words)}]", "f.yaml") == {"a": words}


def test_true_false_and_null() -> None:
    assert read_text("a: true\nb: False\nc: null\nd: ~\ne:\nf: 'true'", "f.yaml") == {
        "a": True, "b": False, "c": None, "d": None, "e": None, "f": "true",
    }  # fmt: skip


def test_merge_keys_and_anchors_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b}"
    assert read_text(text, "f.yaml")["c"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: [1", "line 2, column 6", "expected ',' or ']'"),
        ("a: b: c", "line 1, column 5", "mapping values are not allowed"),
        ("a:\n\t- b", "line 2, column 1", "'\\t'"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1", "'a' is here twice"),
        ("a: {x: 1, x: 2}", "line 1, column 11", "'x' is here twice"),
        ("1: 2", "line 1, column 1", "keys are text"),
        ("? [a]\n: 1", "line 1, column 3", "keys are text"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4", "not known here"),
        ("a: !!int x", "line 1, column 4", "not known here"),
        ("a: !thing {}", "line 1, column 4", "not known here"),
        ("a: <<", "line 1, column 4", "not possible here"),
        ("a: *b", "line 1, column 4", "undefined alias"),
        ("a: 1\n---\nb: 1", "line 2, column 1", "another document"),
        ('a: "\\ud800"', "line 1, column 4", "surrogate"),
        ("a: \x01", "line 1, column 4", "characters that YAML does not allow"),
        ("a: " + "9" * 5000, "line 1, column 4", "too large"),
    ],
)
def test_what_cannot_be_read_is_refused_with_line_and_column(text: str, where: str, what: str) -> None:
    told = message(text)
    assert told.startswith(f"f.yaml: {where}: ")
    assert what in told
    assert len(told) < 300


@pytest.mark.parametrize("text", ["", "# nothing", "null", "[1, 2]", "word", "3", "---"])
def test_anything_but_a_mapping_is_refused(text: str) -> None:
    assert "a mapping with keys" in message(text)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.INF", "1e999", "[1, [.nan]]"])
def test_numbers_that_are_not_finite_are_refused_with_their_key(value: str) -> None:
    assert message(f"a: {{b: {value}}}").startswith("a.b: ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BILLION_LAUGHS, "aliases written out"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: &b {c: *a}}", "contains itself"),
        ("[" * 100_000, "levels deep"),
        ("a: " + "{a: " * 100, "levels deep"),
        ("- " * 60_000, "levels deep"),
        ("a: [" + "1," * 60_000 + "]", "20,000 values"),
        ("&a " * 50_000, "expected"),
        ("a: " + "x " * 100_000, ""),
    ],
)
def test_bombs_are_refused_quickly(text: str, what: str) -> None:
    start = time.perf_counter()
    told = message(text) if what else str(len(read_text(text, "f.yaml")))
    assert what in told
    assert time.perf_counter() - start < 5


def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("a: 1\nb: ü".encode("latin-1"))
    (tmp_path / "large.yaml").write_text("#" * (MAX_BYTES + 1), encoding="utf-8")
    for name, what in (
        ("latin.yaml", "line 2 is not UTF-8"),
        ("large.yaml", "KiB"),
        (".", "is a folder"),
        ("absent.yaml", "does not exist"),
    ):
        with pytest.raises(ConfigError, match=what):
            read_file(tmp_path / name)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_file(Path("/dev/zero"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_file(tmp_path / "a.yaml") == {"a": 1, "b": 2}


def test_overrides_are_paths_and_yaml_values() -> None:
    given = ["train.seed=3", "scenario.ring_length=[220, 270]", "graph=", "a.b.c=x=y", "l=1e-3"]
    assert parse_overrides(given) == [
        (["train", "seed"], 3),
        (["scenario", "ring_length"], [220, 270]),
        (["graph"], None),
        (["a", "b", "c"], "x=y"),
        (["l"], 1e-3),
    ]


@pytest.mark.parametrize("override", ["train.seed", "=3", "a..b=1", ".a=1", "a.=1", "", "a=[1", "a=.nan", "a=!!x y"])
def test_malformed_overrides_are_explained(override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_overrides([override])
    assert override.partition("=")[0] in str(refused.value)


def test_all_malformed_overrides_are_listed() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_overrides(["x", "train.seed=1", "y"])
    assert len(refused.value.problems) == 2


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["1e3", "no", "~", "<<", "1_0", ".5", "0x1f", "007", "=", "null", "- a", "a: b", "#", "!x", "&a"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), VALUES, max_size=4))
def test_what_is_dumped_is_read_back_the_same(data: dict[str, object]) -> None:
    assert read_text(dump(data), "f.yaml") == data if data else True


def test_a_number_read_from_a_dump_keeps_its_kind() -> None:
    numbers = [1.0, 1e-05, 1e16, 1e300, -0.0, 2**60]
    read = read_text(dump({"a": numbers}), "f.yaml")["a"]
    assert [repr(number) for number in read] == [repr(number) for number in numbers]
    assert all(math.isfinite(number) for number in read)
