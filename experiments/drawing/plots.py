"""Pictures of a run: the learning curve beside the controllers, and the vehicles of one episode in time and space.

Drawn on matplotlib's figures without its `pyplot`, so that no window system and no global state are touched.
"""

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from dmpo.files import whole
from envs.traffic.measures import by_vehicle

Floats = NDArray[Any]

INK, GRAY, FAINT = "#1f2430", "#6b7280", "#d9dce1"
BLUE, ORANGE = "#1f5fa8", "#e0803a"  # apart for color-blind readers and in gray
# Slow is dark, fast is bright; the brightest tenth would vanish on white.
SPEEDS: Colormap = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.9, 256)))
_ROW = 0.065  # of the height of the axes, what a line of text needs


def draw_run(
    folder: Path,
    *,
    metrics: Sequence[Mapping[str, Any]],
    name: str,
    controllers: Mapping[str, Mapping[str, float]],
    trajectory: Mapping[str, Floats],
    step_seconds: float,
    learners: Collection[int],
) -> None:
    """Draw a run: its learning curve, one episode and, if it has models, their errors.

    Args:
        folder: existing folder that the pictures are written to.
        metrics: lines of `metrics.jsonl`.
        name: of the experiment, for the titles.
        controllers: their metrics by name.
        trajectory: of one episode, (T, M) arrays `position` and `speed`, perhaps `headway`.
        step_seconds: between two rows of the trajectory.
        learners: numbers of the vehicles that learn.
    """
    modeled = [line for line in metrics if line.get("model/state_error") is not None]
    if modeled:
        save(model_errors(modeled, name), folder / "model_errors.png")
    rolled = [line for line in modeled if _open_loop(line)]
    if rolled:
        save(model_horizon(rolled, name), folder / "model_horizon.png")
    lines = [line for line in metrics if line.get("eval/reward") is not None]
    levels = {key: found["eval/reward"] for key, found in controllers.items()}
    save(learning_curve(lines, levels, name), folder / "learning_curve.png")
    if "position" in trajectory and "speed" in trajectory:
        save(time_space(trajectory, name, step_seconds, learners), folder / "time_space.png")


def save(figure: Figure, path: Path, few_colors: bool = False) -> None:
    """Write a figure; its name never holds half a picture. In 256 colors it takes a third of the bytes."""
    drawn = BytesIO()
    kind = path.suffix.removeprefix(".")
    FigureCanvasAgg(figure).print_figure(drawn, dpi=200, bbox_inches="tight", facecolor="white", format=kind)
    with whole(path) as file:
        if few_colors:
            image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            image.save(file, kind, optimize=True)
        else:
            file.write(drawn.getbuffer())


def learning_curve(lines: Sequence[Mapping[str, Any]], levels: Mapping[str, float], title: str) -> Figure:
    """Learning curve: `eval/reward` of deterministic and of sampled actions; controllers as horizontal lines.

    Args:
        lines: of `metrics.jsonl`, those with an evaluation.
        levels: what each controller gets.
        title: above the picture.
    """
    figure, axes = new_figure(title, (7.2, 4.0))
    steps = [line["env_steps"] for line in lines]
    curves = (("eval/reward_sampled", ORANGE, "sampled"), ("eval/reward", BLUE, "deterministic"))
    shown = [value for key, *_ in curves for line in lines if (value := line.get(key)) is not None]
    for key, color, label in curves:
        values = [np.nan if line.get(key) is None else line[key] for line in lines]
        axes.plot(steps, values, color=color, label=label, lw=1.8, marker="o", ms=3.5, mec="white", mew=0.6, zorder=3,
                  clip_on=False)  # fmt: skip
    axes.set_xlim(0, max([*steps, 1]))
    fit_scale(axes, np.array([*shown, *levels.values()]))
    label_levels(axes, levels)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")
    axes.set_ylabel("reward per step and agent")
    axes.legend(*(reversed(part) for part in axes.get_legend_handles_labels()), **LEGEND)
    return figure


def model_errors(lines: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Held-out errors of the models over environment steps, of their mean and, thin, of each agent (DMPO's Figure 3).

    Args:
        lines: of `metrics.jsonl`, those with model errors.
        title: above the picture.
    """
    figure, axes = new_figure(title, (7.2, 4.0))
    steps = [line["env_steps"] for line in lines]
    for key, color in zip(("reward_error", "change_error", "state_error"), (ORANGE, GRAY, BLUE), strict=True):
        agents = sorted(name for name in lines[0] if name.startswith(f"model/{key}."))
        for name in agents:
            axes.plot(steps, [line[name] for line in lines], color=color, lw=0.5, alpha=0.35)
        label = key.replace("_error", "")
        axes.plot(steps, [line[f"model/{key}"] for line in lines], color=color, lw=1.8, label=label, zorder=3)
    axes.set_yscale("log")
    axes.set_xlim(0, max([*steps, 1]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")
    axes.set_ylabel("one-step error / variance")
    axes.legend(*(reversed(part) for part in axes.get_legend_handles_labels()), **{**LEGEND, "ncols": 3})
    return figure


def model_horizon(lines: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Open-loop error of the models by the length of a rollout, at five moments of training, dark at the end.

    Args:
        lines: of `metrics.jsonl`, those with errors in open loop.
        title: above the picture.
    """
    figure, axes = new_figure(title, (7.2, 4.0))
    moments = sorted({round(at) for at in np.linspace(0, len(lines) - 1, 5)})
    for shade, line in zip(np.linspace(0.25, 1.0, len(moments)), (lines[m] for m in moments), strict=True):
        errors = _open_loop(line)
        label = f"{EngFormatter(sep='')(line['env_steps'])} steps"
        axes.plot(range(1, len(errors) + 1), errors, color=BLUE, alpha=shade, lw=1.8, marker="o", ms=3, label=label)
    axes.axhline(1.0, color=GRAY, lw=1.0, ls=(0, (4, 3)))
    axes.annotate("as wrong as the mean", (1.0, 1.0), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  fontsize=8.5, color=GRAY)  # fmt: skip
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps imagined in a row")
    axes.set_ylabel("error of the state / variance")
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)
    return figure


def _open_loop(line: Mapping[str, Any]) -> list[float]:
    # Of k = 1, 2, … as far as the line has them.
    return [line[key] for k in range(1, len(line)) if (key := f"model/open_loop_error.{k}") in line]


def time_space(
    trajectory: Mapping[str, Floats],
    title: str,
    step_seconds: float,
    learners: Collection[int],
    which: str = "final policy, first reference start",
) -> Figure:
    """Time-space diagram: one line a vehicle, colored by its speed; below, the headways if there are any.

    Where some learn, their lines are thick and those of the others thin. On a loop a line leaves at the top and comes
    back at the bottom. On a road that is long for the vehicles' distances the frame moves with their mean speed, in
    which the distances can be seen.
    """
    widths = line_widths(trajectory, learners)
    trajectory = vehicle_trajectory(trajectory)
    position, speed = trajectory["position"], trajectory["speed"]  # (T, M)
    headway = trajectory.get("headway")
    figure, axes = new_figure(title, (7.2, 3.9 if headway is None else 5.6), below=headway is not None)
    time = np.arange(len(position)) * step_seconds
    shift, origin = moving_frame(position, time)
    lines = draw_vehicles(axes, time, position - origin - shift * time[:, None], speed, widths)
    moving = f" − {shift:.1f} m/s · time" if shift else ""
    which += "; learners are thick" if len(set(widths)) > 1 else ""
    axes.set_title(which, loc="right", fontsize=9, color=GRAY, pad=10)
    axes.set_ylabel(f"position{moving} (m)")
    bar = figure.colorbar(lines, ax=figure.axes, pad=0.015, fraction=0.035, aspect=32)
    bar.set_label("speed (m/s)", color=INK)
    bar.ax.tick_params(color=GRAY, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    if headway is not None:
        axes.tick_params(labelbottom=False)
        axes = figure.axes[1]
        draw_vehicles(axes, time, headway, speed, 1.3 * widths)
        axes.set_ylabel("headway (m)")
    axes.set_xlabel("time (s)")
    figure.align_ylabels()
    return figure


LEGEND: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 1.0),
    "ncols": 2,
    "frameon": False,
    "handlelength": 1.6,
    "borderaxespad": 0.1,
}


def new_figure(title: str, size: tuple[float, float], below: bool = False) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, or two below one another on the same x; and the first of them."""
    figure = Figure(figsize=size, layout="constrained")
    ratios = (3, 2) if below else (1,)
    for axes in figure.subplots(len(ratios), sharex=True, squeeze=False, height_ratios=ratios).flat:
        style_axes(axes)
    figure.axes[0].set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    return figure, figure.axes[0]


def style_axes(axes: Axes) -> None:
    """Style axes as in all pictures: two spines, and thin lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.tick_params(color=GRAY, labelcolor=INK, labelsize=9)
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)


def vehicle_trajectory(trajectory: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Trajectory (T, M) by vehicle: where vehicles take and leave slots, a column for each; NaN while it has none."""
    if "vehicle" not in trajectory:
        return trajectory
    slots = {name: x for name, x in trajectory.items() if x.shape == trajectory["vehicle"].shape}
    return {**trajectory, **{name: np.ma.filled(x, np.nan) for name, x in by_vehicle(slots).items()}}


def line_widths(trajectory: Mapping[str, Floats], learners: Collection[int]) -> Floats:
    """Of a trajectory's lines (M,), or of all of them (1,) where they do not differ."""
    vehicles = trajectory["position"].shape[1]
    if "vehicle" in trajectory or len(learners) == vehicles:
        return np.array([0.9])
    return np.where(np.isin(np.arange(vehicles), list(learners)), 1.8, 0.5)


def draw_vehicles(axes: Axes, time: Floats, y: Floats, speed: Floats, widths: Floats) -> LineCollection:
    """One line a vehicle, (T, M), colored by speed; broken where it begins a new lap, and where it is NaN."""
    points = np.stack([np.broadcast_to(time[:, None], y.shape), y], axis=-1)  # (T, M, 2)
    pieces = np.stack([points[:-1], points[1:]], axis=2)  # (T-1, M, 2, 2)
    whole = np.abs(np.diff(y, axis=0)) < _lap_jump(y)
    colors = (speed[:-1] + speed[1:]) / 2
    lines = LineCollection(list(pieces[whole]), cmap=SPEEDS, norm=speed_range(speed))
    lines.set_array(colors[whole])
    lines.set(linewidth=np.broadcast_to(widths, whole.shape)[whole], capstyle="round")
    axes.add_collection(lines)
    axes.set_xlim(0, max(float(time[-1]), 1e-9))
    axes.set_ylim(*with_margin(y))
    return lines


def with_margin(y: Floats) -> tuple[float, float]:
    """Limits of an axis on which all that is known of y is seen."""
    low, high = _ends(y)
    margin = 0.02 * max(high - low, 1.0)
    return low - margin, high + margin


def speed_range(speed: Floats) -> Normalize:
    """Of the colors of speeds: from rest, unless nobody comes near it."""
    low, high = _ends(speed)
    high = max(high, 1.0)
    low = low if low > high / 3 else 0.0
    return Normalize(low, max(high, low + 1.0))


def _ends(values: Floats) -> tuple[float, float]:
    """The smallest and the largest number, zeros where there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _lap_jump(position: Floats) -> float:
    """A step further than this is the beginning of a new lap: half of what there is."""
    low, high = _ends(position)
    return max((high - low) / 2, 1e-9)


def moving_frame(position: Floats, time: Floats) -> tuple[float, float]:
    """Speed and start of the frame to draw in; at rest on loops, and on roads hardly longer than the platoon.

    At rest it is too where vehicles come and go. Otherwise it moves as they do at the end, from where the last of them
    started.
    """
    steady = np.abs(np.diff(position, axis=0)) < _lap_jump(position)  # not where one is not there
    if len(time) < 4 or not steady.size or not steady.all():
        return 0.0, 0.0
    late = -len(time) // 4
    traveled = float((position[-1] - position[0]).mean())
    if traveled <= float(np.ptp(position[0])):
        return 0.0, 0.0
    speed = float((position[-1] - position[late]).mean() / (time[-1] - time[late]))
    return speed, float(position[0].min())


def fit_scale(axes: Axes, values: Floats, which: Literal["x", "y"] = "y") -> None:
    """A linear axis or, where the worst would press the best together, one that is logarithmic away from them."""
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    near = max(abs(high), (high - low) / 1000)
    axis: Axis = getattr(axes, f"{which}axis")
    limit, scale = getattr(axes, f"set_{which}lim"), getattr(axes, f"set_{which}scale")
    if high - low <= 10 * near or near == 0:
        limit(low - 0.06 * max(high - low, 1e-9), high + 0.08 * max(high - low, 1e-9))
        axis.set_major_locator(MaxNLocator(6))
        return
    scale("symlog", linthresh=near)
    limit(low * 1.25, high + 0.3 * near)
    axis.set_major_locator(FixedLocator(_ticks(axes, which)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}".replace("-", "−")))


def _ticks(axes: Axes, which: Literal["x", "y"]) -> list[float]:
    """Round numbers that keep their distance on a scale that is partly logarithmic, the roundest first."""
    powers = [digit * 10.0**power for digit in (1, 5, 2) for power in range(9, -7, -1)]
    low, high = getattr(axes, f"get_{which}lim")()
    distance = 1.4 * _ROW if which == "y" else 2 * _ROW  # numbers are wider than high
    ticks: list[float] = []
    for value in [0.0, *(sign * power for power in powers for sign in (1, -1))]:
        here = _height(axes, value, which)
        if low <= value <= high and all(abs(_height(axes, tick, which) - here) > distance for tick in ticks):
            ticks.append(value)
    return ticks


def _height(axes: Axes, value: float, which: Literal["x", "y"] = "y") -> float:
    """Position of a value, as a share of the axes' height or width."""
    at = 0 if which == "x" else 1
    place = axes.transAxes.inverted().transform(axes.transData.transform((value, value)))
    return float(place[at])


def label_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """A line for each level, its name at the right; equal ones share a name, near ones are moved apart."""
    groups: list[tuple[float, list[str]]] = []
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        axes.axhline(level, color=GRAY, lw=1.0, ls=(0, (4, 3)), zorder=1)
        here = _height(axes, level)
        if groups and here - groups[-1][0] < _ROW / 4:
            groups[-1][1].append(name)
        else:
            groups.append((here, [name]))
    top = -np.inf
    for here, names in groups:
        half = _ROW * len(names) / 2
        middle = max(here, top + half)
        text = "\n".join(names)
        axes.annotate(
            text, (1.0, here), (1.02, middle), xycoords="axes fraction", textcoords="axes fraction", va="center",
            fontsize=8.5, color=GRAY, linespacing=1.15,
        )  # fmt: skip
        top = middle + half
