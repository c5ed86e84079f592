"""Pictures of what is compared: episodes in time and space side by side, and who talks to whom."""

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from numpy.typing import NDArray

from experiments.comparisons.plots import plain
from experiments.drawing.plots import (
    GRAY,
    INK,
    draw_vehicles,
    moving_frame,
    speed_range,
    style_axes,
    vehicle_trajectory,
    with_margin,
)

Trajectory = Mapping[str, NDArray[Any]]

_COLUMN = 2.7  # inches
_NAMED_NODES = 40  # more would write over one another


def time_spaces(trajectories: Mapping[str, Trajectory | None]) -> Figure | None:
    """Episodes from the same start, a column each, on one scale of place, time and speed; headways below, if any.

    Args:
        trajectories: by label; None where a run kept none, which its column says.

    Returns:
        None where no run kept any.
    """
    known = {label: t for label, t in trajectories.items() if t is not None and {"position", "speed"} <= t.keys()}
    kept = {label: vehicle_trajectory(t) for label, t in known.items()}
    if not kept:
        return None
    rows = ["position", *(["headway"] if all("headway" in t for t in kept.values()) else [])]
    size = (_COLUMN * len(trajectories) + 0.9, 3.0 if len(rows) == 1 else 4.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(trajectories), sharex=True, sharey="row", squeeze=False,
                           height_ratios=(3, 2)[: len(rows)])  # fmt: skip
    shift, origin = moving_frame(next(iter(kept.values()))["position"], _time(next(iter(kept.values()))))
    for label, column in zip(trajectories, grid.T, strict=True):
        column[0].set_title(plain(label), fontsize=10, fontweight="bold", color=INK, loc="left")
        _draw_episode(column, kept.get(label), rows, shift, origin)
    _share_limits(grid, kept, rows, shift, origin)
    moving = f" − {shift:.1f} m/s · time" if shift else ""
    for name, row in zip(rows, grid, strict=True):
        row[0].set_ylabel(f"{name}{moving if name == 'position' else ''} (m)")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    _speed_bar(figure, kept)
    figure.align_ylabels()
    return figure


def communication_graph(graph: nx.Graph) -> Figure:
    """Diagram of a communication graph: a chain as a line, anything else on a circle in the vehicles' order."""
    figure = Figure(figsize=(3.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    place = _layout(graph)
    radius = min(0.11, 1.7 / max(len(graph), 1))
    lines = [(place[a], place[b]) for a, b in graph.edges if a != b]
    if graph.is_directed():
        for start, end in lines:
            axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color=GRAY, lw=0.9,
                                           shrinkA=60 * radius, shrinkB=60 * radius))  # fmt: skip
    else:
        axes.add_collection(LineCollection(lines, colors=GRAY, linewidths=0.5 if len(lines) > 100 else 1.2))
    _draw_nodes(axes, place, radius)
    return figure


def describe_graph(graph: nx.Graph) -> str:
    """In words: agents, edges, and how far apart the furthest are."""
    agents, edges = graph.number_of_nodes(), graph.number_of_edges()
    kind = "directed edge" if graph.is_directed() else "edge"
    words = f"{agents} agent{'s'[: agents != 1]}, {edges} {kind}{'s'[: edges != 1]}"
    linked = nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
    return f"{words}, diameter {nx.diameter(graph)}" if linked else f"{words}, not connected"


def _draw_episode(column: Any, trajectory: Trajectory | None, rows: list[str], shift: float, origin: float) -> None:
    for name, axes in zip(rows, column, strict=True):
        style_axes(axes)
        if trajectory is None:
            axes.annotate("no episode kept\nby this run", (0.5, 0.5), xycoords="axes fraction", ha="center",
                          va="center", color=GRAY, fontsize=9)  # fmt: skip
        else:
            y = _heights(trajectory, name, shift, origin)
            draw_vehicles(axes, _time(trajectory), y, trajectory["speed"], np.array([0.9]))


def _share_limits(grid: Any, kept: Mapping[str, Trajectory], rows: list[str], shift: float, origin: float) -> None:
    """Scales over all episodes, where each was drawn on its own."""
    speeds = speed_range(np.concatenate([t["speed"].ravel() for t in kept.values()]))
    end = max(_time(t)[-1] for t in kept.values())
    for name, row in zip(rows, grid, strict=True):
        values = np.concatenate([_heights(t, name, shift, origin).ravel() for t in kept.values()])
        row[0].set_ylim(*with_margin(values))
        row[0].set_xlim(0, max(float(end), 1e-9))
        for axes in row:
            for lines in axes.collections:
                lines.set_norm(speeds)


def _speed_bar(figure: Figure, kept: Mapping[str, Trajectory]) -> None:
    lines = next(c for axes in figure.axes for c in axes.collections if isinstance(c, LineCollection))
    bar = figure.colorbar(lines, ax=figure.axes, pad=0.015, fraction=0.035, aspect=32)
    bar.set_label("speed (m/s)", color=INK)
    bar.ax.tick_params(color=GRAY, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)


def _heights(trajectory: Trajectory, name: str, shift: float, origin: float) -> NDArray[Any]:
    y = trajectory[name]  # (T, N)
    return y - origin - shift * _time(trajectory)[:, None] if name == "position" else y


def _time(trajectory: Trajectory) -> NDArray[Any]:
    return np.arange(len(trajectory["position"])) * float(trajectory["step_seconds"])


def _layout(graph: nx.Graph) -> dict[int, tuple[float, float]]:
    n = len(graph)
    ends = [node for node in graph if graph.degree(node) == 1]
    if n > 1 and nx.is_tree(graph.to_undirected()) and len(ends) == 2 and max(dict(graph.degree).values()) <= 2:
        order = list(nx.dfs_preorder_nodes(graph.to_undirected(), min(ends)))
        return {node: (2 * k / (n - 1) - 1, 0.0) for k, node in enumerate(order)}
    angles = {node: np.pi / 2 - 2 * np.pi * k / n for k, node in enumerate(sorted(graph))}
    return {node: (float(np.cos(angle)), float(np.sin(angle))) for node, angle in angles.items()}


def _draw_nodes(axes: Axes, place: Mapping[int, tuple[float, float]], radius: float) -> None:
    for node, at in place.items():
        axes.add_patch(Circle(at, radius, facecolor=INK, edgecolor="white", lw=0.8, zorder=3))
        if len(place) <= _NAMED_NODES:
            axes.annotate(str(node), at, ha="center", va="center", fontsize=min(9.0, 75 * radius), color="white")
    flat = max(abs(y) for _, y in place.values()) < radius
    axes.set_xlim(-1.15, 1.15)
    axes.set_ylim(*((-0.25, 0.25) if flat else (-1.15, 1.15)))
