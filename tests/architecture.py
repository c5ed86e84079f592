"""Reader of a source tree: who imports whom, by name or through `import_module`, and what stands in the files."""

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import networkx as nx

PACKAGES = ("benchmarks", "dmpo", "envs", "experiments", "graphs")


class Module(NamedTuple):
    """Module of Python: its dotted name, its source, and whether it is a package's `__init__`."""

    name: str
    source: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.source)

    @property
    def package(self) -> str:
        """The package that relative imports begin at."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def read_modules(root: Path, packages: Collection[str] = PACKAGES) -> dict[str, Module]:
    """All modules of the packages in a folder, by name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return found


def import_graph(modules: Mapping[str, Module]) -> nx.DiGraph:
    """An edge for every import among the modules, wherever in the file it stands."""
    graph = nx.DiGraph()
    graph.add_nodes_from(modules)
    for module in modules.values():
        graph.add_edges_from((module.name, target) for target in imports(module, modules) if target != module.name)
    return graph


def imports(module: Module, modules: Collection[str]) -> set[str]:
    """The modules that one imports: at the top, inside functions, for types only, or by `import_module`."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = _base(module, node)
            # `from package import name` names a module of the package, or something in its __init__.
            named = (f"{start}.{alias.name}" for alias in node.names)
            found.update(name if name in modules else start for name in named)
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            found.update(_loaded_by_name(module.tree, modules))
    return {name for name in found if name in modules}


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.package.split(".")
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _loaded_by_name(tree: ast.Module, modules: Collection[str]) -> Iterator[str]:
    # Registries keep the names in tables, so each text of the file that names a module, or begins the name, counts.
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            start = str(node.values[0].value)
            yield from (name for name in modules if start.endswith(".") and name.startswith(start))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Groups of modules that import one another, directly or through others."""
    return [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]


def long_functions(module: Module, most: int) -> Iterator[str]:
    """The functions of more lines than that, counted from `def` to the last line."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                yield f"{module.name}.{node.name}: {lines} lines"


def compared_texts(module: Module) -> Iterator[tuple[str, int]]:
    """Texts that something is compared or matched with, with their lines: `x == "text"`, `x in ("text", …)`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value, part.lineno


def repeated_blocks(modules: Mapping[str, Module], length: int) -> Iterator[str]:
    """Pairs of equal blocks of that many lines; imports, empty lines and lines of closing brackets do not count."""
    places: dict[tuple[str, ...], str] = {}
    for module in modules.values():
        lines = list(_telling_lines(module))
        for first in range(len(lines) - length + 1):
            block = tuple(line for _, line in lines[first : first + length])
            place = f"{module.name}:{lines[first][0]}"
            if places.setdefault(block, place) != place:
                yield f"{place} repeats {places[block]}"


def _telling_lines(module: Module) -> Iterator[tuple[int, str]]:
    imported = {
        line
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(module.source.splitlines(), start=1):
        if number not in imported and line.strip(" \t()[]{},\"'"):
            yield number, line.strip()
