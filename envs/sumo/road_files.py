"""Reader of a user's own SUMO files, to check them against each other before anything is simulated."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from graphs.spelling import hint

#: Networks that come with the package.
PACKAGED = Path(__file__).with_name("roads")
MAX_BYTES = 512 * 2**20
_DEFAULT_TYPE = "DEFAULT_VEHTYPE"  # of vehicles whose file names none


@dataclass(frozen=True)
class Demand:
    """Names in the route and additional files, which define the traffic.

    Attributes:
        types: vehicle types.
        mixtures: distributions of vehicle types.
        vehicles: single vehicles and trips.
        flows: flows, whose vehicles are called ``FLOW.0``, ``FLOW.1``, …
        edges: edges that traffic drives on.
    """

    types: frozenset[str]
    mixtures: frozenset[str]
    vehicles: frozenset[str]
    flows: frozenset[str]
    edges: frozenset[str]

    def has_vehicle(self, identity: str) -> bool:
        """Whether a vehicle of this name enters."""
        flow, dot, number = identity.rpartition(".")
        return identity in self.vehicles or bool(dot and number.isdecimal() and flow in self.flows)


def find(name: str) -> Path:
    """Path of a file in the working directory or, where there is none of that name, in the package.

    Raises:
        ValueError: there is neither, or it is no file that SUMO could read.
    """
    path = Path(name)
    packaged = PACKAGED / name if path.name == name else path
    try:
        if not path.exists() and packaged.is_file():
            return packaged
        status = path.stat()
    except OSError as error:
        known = sorted(file.name for file in PACKAGED.iterdir() if file.suffix == ".xml")
        raise ValueError(
            f"the file '{name}' cannot be read ({error.strerror}); the path is relative to the working directory"
            f"{hint(name, known)} (with the package come: {', '.join(known)})"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"'{name}' is not a regular file; give one that SUMO reads")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"'{name}' has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
    if "," in name:
        raise ValueError(f"'{name}' has a comma, at which SUMO ends a file's name; rename the file")
    return path


def edges(network: str) -> frozenset[str]:
    """Names of the edges of a network.

    Raises:
        ValueError: it cannot be read, or is no network.
    """
    path = find(network)
    return _edges(path, path.stat().st_mtime_ns)


def demand(names: Iterable[str]) -> Demand:
    """The traffic that several route and additional files define together.

    Raises:
        ValueError: one cannot be read, or is no XML of SUMO's.
    """
    found: dict[str, set[str]] = {"mixtures": set(), "types": {_DEFAULT_TYPE}, "vehicles": set(), "flows": set()}
    found["edges"] = set()
    for name in names:
        path = find(name)
        for kind, more in _demand(path, path.stat().st_mtime_ns).items():
            found[kind] |= more
    return Demand(**{kind: frozenset(names) for kind, names in found.items()})


def missing(given: Collection[str], known: Collection[str]) -> str | None:
    """The alphabetically first name that is not known; None where all are."""
    return min(set(given) - set(known), default=None)


@lru_cache(maxsize=8)
def _edges(path: Path, _: int) -> frozenset[str]:
    elements = _elements(path, ("net",), "a SUMO network; netconvert or netedit makes one")
    return frozenset(
        element.get("id", "") for element in elements if element.tag == "edge" and element.get("function") is None
    )


@lru_cache(maxsize=32)
def _demand(path: Path, _: int) -> dict[str, frozenset[str]]:
    kinds = {"vType": "types", "vTypeDistribution": "mixtures", "vehicle": "vehicles", "trip": "vehicles"}
    kinds["flow"] = "flows"
    found: dict[str, set[str]] = {kind: set() for kind in ("edges", *kinds.values())}
    elements = _elements(path, ("routes", "additional"), "a SUMO file of routes or additional elements")
    for element in elements:
        if element.tag in kinds:
            found[kinds[element.tag]].add(element.get("id", ""))
        if element.tag in ("route", "vehicle", "trip", "flow"):
            for attribute in ("edges", "from", "to", "via"):
                found["edges"].update(element.get(attribute, "").split())
    return {kind: frozenset(names) for kind, names in found.items()}


def _elements(path: Path, roots: Collection[str], what: str) -> Iterator[ElementTree.Element]:
    """All elements of a file whose root element has one of the names ``roots``."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            parser = ElementTree.iterparse(stream, events=("start",))
            _, root = next(parser)
            if root.tag not in roots:
                raise ValueError(f"'{path}' begins with <{root.tag}> and is not {what}")
            for _, element in parser:
                yield element
                # Elements that were read would fill the memory.
                if len(root) > 1:
                    del root[:-1]
    except (ElementTree.ParseError, StopIteration, OSError, EOFError) as error:
        raise ValueError(f"'{path}' is not {what} ({error})") from error
