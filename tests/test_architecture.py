"""The floors and rooms of the code: imports run downwards only, files are short, nothing is written twice."""

import re
from collections.abc import Mapping
from pathlib import Path

import networkx as nx
import pytest

import dmpo
import envs
import graphs
from tests.architecture import (
    PACKAGES,
    Module,
    circles,
    compared_texts,
    import_graph,
    long_functions,
    read_modules,
    repeated_blocks,
)

ROOT = Path(__file__).parents[1]
MODULES = read_modules(ROOT)
IMPORTS = import_graph(MODULES)

FLOORS = {
    "graphs": {"graphs"},
    "envs": {"envs", "graphs"},
    "dmpo": {"dmpo", "graphs"},
    "experiments": {"experiments", "dmpo", "envs", "graphs"},
    "benchmarks": set(PACKAGES),
}
# `dmpo bench` is a command like the others, and the suite behind it trains whole experiments: one of the two has to
# know the other by name. It is the command, which loads the suite when it is asked for and nothing otherwise.
UPWARDS = {("experiments.bench", "benchmarks"), ("experiments.bench", "benchmarks.suite"),
           ("experiments.bench", "benchmarks.rows")}  # fmt: skip

# What each room of a floor may import of the same floor. "" is what lies in no folder of the floor.
ROOMS = {
    "envs": {
        "": {""},
        "sumo": {"", "sumo"},
        "vector": {"", "vector"},
        "controllers": {"", "controllers", "sumo", "vector"},
        "traffic": {"", "traffic", "sumo", "controllers"},
        "domains": {"", "domains"},
    },
    "dmpo": {
        "": {"", "data"},
        "nn": {"", "nn"},
        "data": {"", "data", "nn"},
        "models": {"", "models", "data", "nn"},
        "updates": {"", "updates", "data", "nn"},
        "algorithms": {"", "algorithms", "updates", "models", "data", "nn"},
    },
}
# The loop that drives a learner: no part of a learner knows it.
TRUNK = {"dmpo", "dmpo.trainer", "dmpo.collector", "dmpo.evaluate", "dmpo.checkpoint", "dmpo.files"}
KERNELS = "dmpo.nn.kernels"
# Computes with the kernels; reports which there are; switches them off.
DOORS = {"dmpo.nn.functional", "benchmarks.machine", "benchmarks.switches"}

LEARNER_LINES = {"dmpo": 90}
AXES = {"envs": ("learners", "graphs"), "dmpo": ("scenarios", "graphs"), "graphs": ("learners", "scenarios")}

# Tests of no module of one name: of the pages, of the tree itself, or of many modules at once.
OF_NO_MODULE = {
    "test_architecture.py": "the source tree",
    "test_durations.py": "the tests themselves",
    "test_pages.py": "README.md and docs/",
    "envs/traffic/test_evaluation.py": "all road scenarios",
    "experiments/test_faults.py": "all commands, while disks, processes and files fail",
    "experiments/test_fuzz.py": "all commands, with what nobody would type",
}


def imported_against(allowed: Mapping[str, set[str]], graph: nx.DiGraph) -> list[str]:
    """Imports from one package to another that the table does not have."""
    pairs = ((one, other, one.split(".")[0], other.split(".")[0]) for one, other in graph.edges)
    return [f"{one} imports {other}" for one, other, from_, to in pairs if to not in allowed[from_]]


def room_of(module: str) -> str:
    """The folder of a module below its floor, "" for what lies in none."""
    floor, *rest = module.split(".")
    return rest[0] if rest and rest[0] in ROOMS.get(floor, {}) else ""


def imported_across_rooms(floor: str, graph: nx.DiGraph) -> list[str]:
    """Imports between rooms of a floor that have no arrow; a floor's front door may open every room."""
    found = []
    for one, other in graph.edges:
        if one.split(".")[0] == other.split(".")[0] == floor and one != floor:
            room = ROOMS[floor].get(room_of(one), set())
            if room_of(other) not in room:
                found.append(f"{one} imports {other}")
    return found


def of_package(package: str, graph: nx.DiGraph) -> nx.DiGraph:
    """The imports among the modules of one package."""
    return graph.subgraph([name for name in graph if name.split(".")[0] == package])


def test_imports_run_from_floor_to_floor_downwards_only() -> None:
    downwards = nx.restricted_view(IMPORTS, [], [edge for edge in UPWARDS if IMPORTS.has_edge(*edge)])
    assert imported_against(FLOORS, downwards) == []


@pytest.mark.parametrize("floor", ROOMS)
def test_rooms_of_a_floor_import_along_the_arrows(floor: str) -> None:
    assert imported_across_rooms(floor, IMPORTS) == []


def test_no_part_of_a_learner_knows_the_loop_that_drives_it() -> None:
    assert [
        edge for edge in IMPORTS.edges if edge[0].startswith("dmpo.") and room_of(edge[0]) and edge[1] in TRUNK
    ] == []


def test_one_module_opens_the_kernels() -> None:
    users = {one for one, other in IMPORTS.edges if other.startswith(KERNELS) and not one.startswith(KERNELS)}
    assert users <= DOORS


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_of_a_package_import_one_another_in_a_circle(package: str) -> None:
    assert circles(of_package(package, IMPORTS)) == []


@pytest.mark.parametrize("package", [*PACKAGES, "docs", "tests"])
def test_no_file_has_more_than_400_lines(package: str) -> None:
    paths = [path for end in ("py", "cpp", "h", "j2", "md") for path in (ROOT / package).rglob(f"*.{end}")]
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


@pytest.mark.parametrize("package", [*PACKAGES, "docs", "tests"])
def test_no_function_has_more_than_40_lines(package: str) -> None:
    modules = read_modules(ROOT, [package])
    assert [found for module in modules.values() for found in long_functions(module, most=40)] == []


def test_learners_hold_only_what_their_paper_adds() -> None:
    paths = {name: ROOT / "dmpo" / "algorithms" / f"{name}.py" for name in dmpo.names()}
    lengths = {name: path.read_text(encoding="utf-8").count("\n") for name, path in paths.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LEARNER_LINES.get(name, 150)} == {}


@pytest.mark.parametrize("package", AXES)
def test_no_axis_asks_for_another_one_by_name(package: str) -> None:
    names = {"learners": dmpo.names(), "scenarios": envs.names(), "graphs": graphs.names()}
    foreign = {name for axis in AXES[package] for name in names[axis]} - {"file"}  # a topology, and a file
    assert [
        f"{module.name}:{line}: {text!r}"
        for module in MODULES.values()
        if module.name.split(".")[0] == package
        for text, line in compared_texts(module)
        if text in foreign
    ] == []


def test_nothing_is_written_twice() -> None:
    assert list(repeated_blocks(MODULES, length=8)) == []


def test_the_tests_mirror_the_source_tree() -> None:
    found = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    homeless = {
        str(path)
        for path in found
        if not any(
            (ROOT / path.parent / path.stem.removeprefix("test_")).with_suffix(end).exists() for end in ("", ".py")
        )
    }
    assert homeless == set(OF_NO_MODULE)


# The checks themselves, on a made-up tree.


def tree(**sources: str) -> dict[str, Module]:
    """Modules by name, `__` for a dot; those without one are packages."""
    named = {key.replace("__", "."): source for key, source in sources.items()}
    return {name: Module(name, source, "." not in name) for name, source in named.items()}


@pytest.mark.parametrize(
    "source",
    [
        "import envs.ring",
        "from envs import ring",
        "from envs.ring import Ring",
        "def f():\n    from envs.ring import Ring",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from envs.ring import Ring",
        "from importlib import import_module\nTABLE = {'ring': 'envs.ring'}\nimport_module(TABLE['ring'])",
        "import importlib\nfor name in ('ring',):\n    importlib.import_module(f'envs.{name}')",
    ],
)
def test_an_import_is_found_wherever_it_stands(source: str) -> None:
    graph = import_graph(tree(envs="", envs__ring="", dmpo="", dmpo__trainer=source))
    assert graph.has_edge("dmpo.trainer", "envs.ring")
    assert imported_against(FLOORS, graph) == ["dmpo.trainer imports envs.ring"]


@pytest.mark.parametrize("source", ["from . import ring", "from .ring import Ring", "from ..envs.ring import Ring"])
def test_relative_imports_are_found(source: str) -> None:
    assert import_graph(tree(envs="", envs__ring="", envs__loop=source)).has_edge("envs.loop", "envs.ring")


def test_texts_that_load_nothing_are_no_imports() -> None:
    source = "from importlib import import_module\nimport_module('json.decoder')\nHELP = 'see envs.ring for it'"
    assert not import_graph(tree(envs="", envs__ring="", dmpo="", dmpo__trainer=source)).edges


def test_an_import_against_the_arrows_of_a_floor_is_found() -> None:
    graph = import_graph(
        tree(
            envs="from envs.traffic import ring",  # the front door
            envs__scenario="import envs.sumo.simulation",
            envs__sumo="",
            envs__sumo__simulation="",
            envs__traffic="",
            envs__traffic__ring="import envs.sumo.simulation, envs.scenario",
        )
    )
    assert imported_across_rooms("envs", graph) == ["envs.scenario imports envs.sumo.simulation"]


def test_a_circle_is_found_also_where_a_function_hides_half_of_it() -> None:
    modules = tree(dmpo="", dmpo__a="import dmpo.b", dmpo__b="def f():\n    import dmpo.c", dmpo__c="import dmpo.a")
    assert circles(import_graph(modules)) == [["dmpo.a", "dmpo.b", "dmpo.c"]]
    assert circles(import_graph(tree(dmpo="import dmpo.a", dmpo__a="import math"))) == []


def test_long_functions_are_found() -> None:
    body = "\n".join(["    pass"] * 40)
    assert list(long_functions(Module("m", f"def f():\n{body}"), 40)) == ["m.f: 41 lines"]
    assert list(long_functions(Module("m", f"@a\ndef f():\n{body[9:]}"), 40)) == []


@pytest.mark.parametrize(
    "source", ['x == "ring"', 'if s.name in ("a", "ring"): pass', 'match x:\n    case "ring":\n        pass']
)
def test_comparisons_with_a_text_are_found(source: str) -> None:
    assert "ring" in [text for text, _ in compared_texts(Module("m", source))]
    assert list(compared_texts(Module("m", 'f("ring")'))) == []


def test_repeated_blocks_are_found() -> None:
    block = "\n".join(f"x{i} = {i}" for i in range(8))
    assert list(repeated_blocks(tree(a=block, b=f"y = 0\n\n{block}"), 8)) == ["b:3 repeats a:1"]
    assert list(repeated_blocks(tree(a=block, b=re.sub("x7", "y7", block)), 8)) == []
