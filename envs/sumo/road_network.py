"""Road networks as junctions, edges and connections, compiled by SUMO's netconvert."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from envs.sumo.simulation import use_packaged_sumo
from envs.types import SimulationError

Point = tuple[float, float]


@dataclass(frozen=True)
class Junction:
    """Junction at (x, y) in m; ``kind`` and ``radius`` as in SUMO's node files, None for SUMO's own choice."""

    id: str
    x: float
    y: float
    kind: str | None = None
    radius: float | None = None


@dataclass(frozen=True)
class Edge:
    """One-lane road; ``length`` and ``shape`` in m, ``speed`` in m/s, ``priority`` as in SUMO's edge files."""

    id: str
    start: str
    end: str
    length: float
    speed: float
    priority: int | None = None
    shape: Sequence[Point] | None = None


@dataclass(frozen=True)
class Connection:
    """Permission to drive from the end of one edge into another; a junction without any allows every turn."""

    start: str
    end: str


def write_network(
    folder: Path, junctions: Iterable[Junction], edges: Iterable[Edge], connections: Iterable[Connection] = ()
) -> Path:
    """Compile a network with junction lanes and without turnarounds; returns the path of its ``.net.xml``.

    Raises:
        SimulationError: netconvert refused it; the message holds netconvert's own words.
    """
    files = {
        "node-files": _document("nodes", "node", map(_junction, junctions), folder / "roads.nod.xml"),
        "edge-files": _document("edges", "edge", map(_edge, edges), folder / "roads.edg.xml"),
        "connection-files": _document(
            "connections", "connection", map(_connection, connections), folder / "roads.con.xml"
        ),
        "output-file": folder / "roads.net.xml",
    }
    command = [str(use_packaged_sumo() / "bin" / "netconvert"), "--no-turnarounds", "true"]
    command += ["--no-internal-links", "false", "--xml-validation", "never"]
    for option, path in files.items():
        command += [f"--{option}", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SimulationError(f"netconvert could not build the road network: {result.stderr.strip()}")
    return files["output-file"]


def _document(root: str, element: str, rows: Iterable[dict[str, str]], path: Path) -> Path:
    tree = ElementTree.Element(root)
    for attributes in rows:
        ElementTree.SubElement(tree, element, attributes)
    ElementTree.ElementTree(tree).write(path)
    return path


def _junction(junction: Junction) -> dict[str, str]:
    return _present(
        id=junction.id, x=f"{junction.x:.2f}", y=f"{junction.y:.2f}", type=junction.kind, radius=junction.radius
    )


def _edge(edge: Edge) -> dict[str, str]:
    # Two decimals, as the published networks have them: more would change the lengths of junction lanes.
    shape = None if edge.shape is None else " ".join(f"{x:.2f},{y:.2f}" for x, y in edge.shape)
    attributes = {"from": edge.start, "to": edge.end, "numLanes": "1"}
    return attributes | _present(id=edge.id, length=edge.length, speed=edge.speed, priority=edge.priority, shape=shape)


def _connection(connection: Connection) -> dict[str, str]:
    return {"from": connection.start, "to": connection.end, "fromLane": "0", "toLane": "0"}


def _present(**attributes: str | float | None) -> dict[str, str]:
    return {key: str(value) for key, value in attributes.items() if value is not None}
