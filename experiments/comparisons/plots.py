"""Pictures of a comparison: learning curves, final results and model errors, a color and a mark for each label.

Narrow enough to be read on a phone. Colors are Okabe and Ito's, told apart by color-blind readers; marks and dashes
do the same in gray.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from experiments.comparisons.standings import REWARD, Curve, ScenarioResult, VariantResult
from experiments.comparisons.statistics import Floats
from experiments.drawing.plots import GRAY, INK, fit_scale, label_levels, new_figure, style_axes

_WIDTH = 4.8  # inches
_SHOWN_CONTROLLERS = 3
_LEGEND_ROW = 0.21  # inches
_LONGEST = 30  # characters of a name
_SHORT = 20  # characters of labels that fit beside one another in a legend
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "p", "h")
_DASHES: tuple[str | tuple[float, ...], ...] = ("-", (5, 1.5), (1.2, 1.2), (5, 1.5, 1.2, 1.5))


@dataclass(frozen=True)
class LineStyle:
    """Color, marker and dashes of a label, the same in every picture."""

    color: str
    mark: str
    dashes: str | tuple[float, ...]

    def line(self) -> Line2D:
        """For a legend."""
        return Line2D([], [], color=self.color, marker=self.mark, ms=5, mec="white", mew=0.6, lw=1.8, **self.dash())

    def dash(self) -> dict[str, Any]:
        """Of a line, as matplotlib's keyword."""
        return {"ls": self.dashes if isinstance(self.dashes, str) else (0, self.dashes)}


def line_styles(found: Sequence[ScenarioResult]) -> dict[str, LineStyle]:
    """A line_style for each label; only labels that never meet in a scenario may share one."""
    meeting = nx.Graph()
    for result in found:
        labels = sorted(entry.label for entry in result.entries)
        meeting.add_nodes_from(labels)
        meeting.add_edges_from((a, b) for k, a in enumerate(labels) for b in labels[:k])
    numbers = nx.greedy_color(meeting, strategy=lambda graph, _: list(graph))
    return {label: _line_style(number) for label, number in numbers.items()}


def learning_curves(result: ScenarioResult, line_style: Mapping[str, LineStyle]) -> Figure:
    """Reward over environment steps with its intervals; the best controllers and the bounds as horizontal lines."""
    figure, axes = new_figure("", (_WIDTH, 2.9))
    curves = {entry.label: entry.curve for entry in result.entries if entry.curve}
    for label, curve in curves.items():
        _draw_curve(axes, curve, line_style[label])
    axes.set_xlim(0, max([1.0, *(curve.steps[-1] for curve in curves.values())]))
    lines = _lines(result)
    fit_scale(axes, np.concatenate([*_extents(curves.values()), [*lines.values()]]))
    others = {name: metrics[REWARD] for name, metrics in list(result.controllers.items())[1:_SHOWN_CONTROLLERS]}
    inside = {name: level for name, level in others.items() if axes.get_ylim()[0] <= level <= axes.get_ylim()[1]}
    label_levels(axes, {plain(name): level for name, level in (lines | inside).items()})
    _finish(figure, axes, {label: line_style[label] for label in curves}, "reward per step and agent")
    return figure


def model_errors(result: ScenarioResult, line_style: Mapping[str, LineStyle]) -> Figure | None:
    """Held-out errors of the state and of the reward over environment steps; None where nobody has a model."""
    keys = {"state": "model/state_error", "reward": "model/reward_error"}
    curves = {
        (name, entry.label): curve
        for name, key in keys.items()
        for entry in result.entries
        if (curve := entry.over_training(key))
    }
    if not curves:
        return None
    figure, first = new_figure("", (_WIDTH, 4.6), below=True)
    for name, axes in zip(keys, figure.axes, strict=True):
        here = {label: curve for (what, label), curve in curves.items() if what == name}
        for label, curve in here.items():
            _draw_curve(axes, curve, line_style[label])
        axes.set_yscale("log")
        axes.set_ylabel(f"{name}: error / variance")
    first.set_xlim(0, max(curve.steps[-1] for curve in curves.values()))
    _finish(figure, figure.axes[-1], {label: line_style[label] for _, label in curves}, figure.axes[-1].get_ylabel())
    figure.align_ylabels()
    return figure


def final_results(result: ScenarioResult, line_style: Mapping[str, LineStyle]) -> Figure:
    """Each one's final reward with its interval and, faint, each of its runs; controllers below, and as lines."""
    rows: list[VariantResult | str] = [*result.entries, *result.controllers]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.31 * len(rows)), layout="constrained")
    axes = figure.subplots()
    style_axes(axes)
    axes.grid(visible=False)
    for row, what in enumerate(rows):
        if isinstance(what, VariantResult):
            _draw_result(axes, row, what, line_style[what.label])
    lines = _lines(result)
    fit_scale(axes, np.concatenate([*(entry.finals for entry in result.entries), [*lines.values()]]), "x")
    for name, level in lines.items():
        axes.axvline(level, color=GRAY, lw=1.0, ls=(0, (4, 3)), zorder=0)
        if name in result.bounds:  # the controllers have rows with their names
            axes.annotate(plain(name), (level, 1.0), (0, 3), xycoords=("data", "axes fraction"), ha="center",
                          va="bottom", textcoords="offset points", fontsize=8.5, color=GRAY)  # fmt: skip
    for row, what in enumerate(rows):
        if isinstance(what, str):
            _draw_controller(axes, row, result.controllers[what][REWARD])
    axes.set_yticks(range(len(rows)), [plain(what.label if isinstance(what, VariantResult) else what) for what in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for row, text in enumerate(axes.get_yticklabels()):
        text.set_color(INK if row < len(result.entries) else GRAY)
    axes.set_xlabel("final reward per step and agent")
    return figure


def plain(text: str) -> str:
    """A name as it fits into a picture, its middle left out if it is long, and not taken for mathematics."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 + 1 :]}"
    return short.replace("$", r"\$")


def _line_style(number: int) -> LineStyle:
    return LineStyle(_COLORS[number % len(_COLORS)], _MARKS[number % len(_MARKS)], _DASHES[number % len(_DASHES)])


def _draw_curve(axes: Axes, curve: Curve, line_style: LineStyle) -> None:
    if curve.ends is not None:
        axes.fill_between(curve.steps, *curve.ends, color=line_style.color, alpha=0.15, lw=0)
    every = max(1, len(curve.steps) // 10)
    style: dict[str, Any] = {
        "marker": line_style.mark,
        "ms": 4.5,
        "mec": "white",
        "mew": 0.6,
        "markevery": every,
        **line_style.dash(),
    }
    axes.plot(curve.steps, curve.middle, color=line_style.color, lw=1.8, zorder=3, **style)


def _draw_result(axes: Axes, row: int, entry: VariantResult, line_style: LineStyle) -> None:
    axes.plot(entry.finals, np.full(len(entry.finals), row + 0.22), ls="", marker=line_style.mark, ms=3.5, mew=0,
              color=line_style.color, alpha=0.4)  # fmt: skip
    low, high = entry.final.low, entry.final.high
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], color=line_style.color, lw=2.4, alpha=0.55, solid_capstyle="butt")
    axes.plot(
        entry.final.value, row, marker=line_style.mark, ms=7.5, mec="white", mew=0.8, color=line_style.color, zorder=3
    )


def _draw_controller(axes: Axes, row: int, level: float) -> None:
    """A tick or, where it is out of the picture, an arrow with the number."""
    low, high = axes.get_xlim()
    if low <= level <= high:
        axes.plot(level, row, marker="|", ms=9, mew=1.8, color=GRAY)
        return
    text, edge, align = (f"◂ {level:.3g}", 0.0, "left") if level < low else (f"{level:.3g} ▸", 1.0, "right")
    axes.annotate(text.replace("-", "−"), (edge, row), (3 if align == "left" else -3, 0), ha=align, va="center",
                  xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8.5, color=GRAY)  # fmt: skip


def _lines(result: ScenarioResult) -> dict[str, float]:
    """Horizontal lines beside the runs: the best controller and the bounds, as rewards by name."""
    best = result.best_controller
    return ({} if best is None else {best: result.controllers[best][REWARD]}) | result.bounds


def _extents(curves: Iterable[Curve]) -> list[Floats]:
    return [np.concatenate([curve.middle, *(curve.ends or ())]) for curve in curves]


def _finish(figure: Figure, axes: Axes, line_style: Mapping[str, LineStyle], ylabel: str) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")
    axes.set_ylabel(ylabel)
    columns = 2 if max(map(len, line_style), default=0) <= _SHORT else 1
    # The legend has room of its own, so that many variants leave the axes as high as few do.
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * math.ceil(len(line_style) / columns))
    figure.legend(
        [one.line() for one in line_style.values()], [plain(label) for label in line_style], loc="outside lower left",
        ncols=columns, frameon=False, fontsize=9, handlelength=2.6, labelcolor=INK,
    )  # fmt: skip
