"""A user's own SUMO files: where they are looked for, what is read of them, and what is none."""

import gzip
import os
from pathlib import Path

import pytest

from envs.sumo import road_files

ROUTES = """<routes>
    <vType id="car"/><vTypeDistribution id="mixed" vTypes="car truck"><vType id="truck"/></vTypeDistribution>
    <route id="r" edges="one two"/>
    <vehicle id="first" type="car" depart="0"><route edges="two three"/></vehicle>
    <trip id="second" depart="1" from="four" to="five" via="six seven"/>
    <flow id="many" route="r" end="100" number="5"/>
</routes>"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_here_goes_before_one_of_that_name_in_the_package(folder: Path) -> None:
    assert road_files.find("merge.net.xml") == road_files.PACKAGED / "merge.net.xml"
    (folder / "merge.net.xml").write_text("<net/>")
    assert road_files.find("merge.net.xml") == Path("merge.net.xml")
    assert road_files.edges("merge.net.xml") == frozenset()


def test_all_that_is_said_of_traffic_is_read_from_all_files(folder: Path) -> None:
    (folder / "a.rou.xml").write_text(ROUTES)
    (folder / "b.add.xml").write_text('<additional><vType id="bus"/></additional>')
    found = road_files.demand(["a.rou.xml", "b.add.xml"])
    assert found.types == {"car", "truck", "bus", "DEFAULT_VEHTYPE"} and found.mixtures == {"mixed"}
    assert found.vehicles == {"first", "second"} and found.flows == {"many"}
    assert found.edges == {"one", "two", "three", "four", "five", "six", "seven"}
    known = ["first", "second", "many.0", "many.17", "many", "many.x", "many.", "few.0", ".0"]
    assert [name for name in known if found.has_vehicle(name)] == ["first", "second", "many.0", "many.17"]


def test_roads_are_the_edges_that_are_no_junctions_insides() -> None:
    assert road_files.edges("merge.net.xml") == {"road", "ramp", "out"}


def test_a_compressed_file_is_read_like_a_plain_one(folder: Path) -> None:
    (folder / "a.rou.xml").write_text(ROUTES)
    with gzip.open("a.rou.xml.gz", "wt") as file:
        file.write(ROUTES)
    assert road_files.demand(["a.rou.xml.gz"]) == road_files.demand(["a.rou.xml"])


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    path = folder / "a.rou.xml"
    path.write_text(ROUTES)
    before = road_files.demand(["a.rou.xml"])
    path.write_text(ROUTES.replace("first", "other"))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert road_files.demand(["a.rou.xml"]).vehicles == before.vehicles - {"first"} | {"other"}


@pytest.mark.parametrize("text", [ROUTES[: len(ROUTES) // 2], "", "no XML", "<net/>", "\x1f\x8b"])
def test_what_is_no_file_of_routes_is_refused_by_its_name(text: str, folder: Path) -> None:
    for name in ("bad.rou.xml", "bad.rou.xml.gz"):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=f"'{name}' .*is not a SUMO file of routes"):
            road_files.demand([name])


@pytest.mark.parametrize(
    ("name", "message"), [(".", "not a regular file"), ("a,b.xml", "has a comma"), ("n", "No such")]
)
def test_what_sumo_could_not_read_is_refused(name: str, message: str, folder: Path) -> None:
    (folder / "a,b.xml").write_text(ROUTES)
    with pytest.raises(ValueError, match=message):
        road_files.find(name)


def test_the_first_of_the_missing_names_is_found() -> None:
    assert road_files.missing(["c", "b", "a"], ["b"]) == "a"
    assert road_files.missing(["b"], ["b", "c"]) is None
