from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from experiments.drawing import plots
from experiments.runs.folder import MetricsLog, RunFolder

LINES = [
    {"env_steps": 1000 * k, "eval/reward": -60.0 / (k + 1), "eval/reward_sampled": -600.0 / (k + 1)} for k in range(9)
]
TIME = np.arange(0, 60, 0.1)


def loop(vehicles: int = 4, length: float = 100.0, speed: float = 10.0) -> dict[str, Any]:
    start = np.arange(vehicles) * length / vehicles
    return {
        "position": (start + speed * TIME[:, None]) % length,
        "speed": np.full((len(TIME), vehicles), speed),
    }


def platoon(speed: float = 15.0) -> dict[str, Any]:
    position = 500.0 - 25 * np.arange(3) + speed * TIME[:, None]
    return {
        "position": position,
        "speed": np.full(position.shape, speed),
        "headway": np.full(position.shape, 20.0),
    }


def pieces(figure: Figure, axes: int = 0) -> Any:
    (collection,) = (c for c in figure.axes[axes].collections if isinstance(c, LineCollection))
    return np.array(collection.get_segments())  # (pieces, 2, 2): time and place of both ends


def test_both_pictures_are_written_for_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create("name: x\n")
    with MetricsLog(folder.metrics) as log:
        for line in [*LINES, {"env_steps": 9000, "policy/train_reward": 1.0}]:
            log.write(line)
    plots.draw_run(
        folder.plots,
        metrics=folder.read_metrics(),
        name="x",
        controllers={"constant": {"eval/reward": -10.0}},
        trajectory=platoon(),
        step_seconds=0.1,
        learners=range(3),
    )
    assert sorted(path.name for path in folder.plots.iterdir()) == ["learning_curve.png", "time_space.png"]
    for path in folder.plots.iterdir():
        image = Image.open(path)
        assert min(image.size) > 500
        assert len(set(image.convert("L").resize((100, 100)).tobytes())) > 10


def test_a_loop_is_drawn_without_lines_across_it() -> None:
    drawn = pieces(plots.time_space(loop(), "x", 0.1, range(4)))
    assert np.abs(np.diff(drawn[..., 1], axis=1)).max() < 2
    assert len(drawn) == 4 * (len(TIME) - 1) - (5 + 3 * 6)  # as many beginnings of a lap


def test_learners_among_others_have_the_thick_lines() -> None:
    def drawn(learners: list[int]) -> tuple[Any, list[float]]:
        figure = plots.time_space(platoon(), "x", 0.1, learners)
        (lines,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
        return np.array(lines.get_segments()).reshape(-1, 3, 2, 2), [float(w) for w in lines.get_linewidths()]

    _, widths = drawn([0, 1, 2])
    assert len(set(widths)) == 1
    segments, mixed = drawn([1])
    assert len(mixed) == segments.shape[0] * 3
    # Of vehicle 1, which starts in the middle of the three, and of those before and behind it.
    assert {tuple(row) for row in np.reshape(mixed, (-1, 3))} == {(0.5, 1.8, 0.5)}
    assert (segments[0, :, 0, 1] == [50.0, 25.0, 0.0]).all()


def test_where_vehicles_come_and_go_each_has_a_line_and_an_empty_slot_has_none() -> None:
    moments = 40
    vehicle = np.zeros((moments, 2))
    vehicle[:15, 0], vehicle[15:, 0], vehicle[20:30, 1] = 1, 3, 2  # one after the other in a slot, and one alone
    speed = np.where(vehicle > 0, 10.0, 0.0)
    position = np.where(vehicle == 1, 300.0, 100.0) + np.arange(moments)[:, None]
    seen = {"vehicle": vehicle, "speed": speed, "position": np.where(vehicle > 0, position, 0.0), "headway": speed}
    figure = plots.time_space(seen, "x", 0.1, range(2))
    drawn = pieces(figure)
    assert len(drawn) == 14 + 24 + 9
    assert drawn[..., 1].min() >= 100.0 and np.abs(np.diff(drawn[..., 1], axis=1)).max() == pytest.approx(1.0)
    assert figure.axes[0].get_ylim()[0] > 0
    (lines,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert (lines.norm.vmin, lines.norm.vmax) == (10.0, 11.0)  # nobody stands


def test_a_road_that_stays_empty_can_be_drawn() -> None:
    nobody = {name: np.zeros((5, 2)) for name in ("vehicle", "speed", "position", "headway")}
    assert len(pieces(plots.time_space(nobody, "x", 0.1, range(2)))) == 0


def test_a_road_is_drawn_in_a_frame_that_moves_with_the_vehicles() -> None:
    figure = plots.time_space(platoon(), "x", 0.1, range(3))
    drawn = pieces(figure)
    assert np.ptp(drawn[..., 1]) == pytest.approx(50)
    assert "15.0 m/s" in figure.axes[0].get_ylabel()
    assert pieces(figure, axes=1)[..., 1] == pytest.approx(20)


@pytest.mark.parametrize("speed", [0.0, 0.3])
def test_vehicles_that_hardly_move_are_drawn_where_they_are(speed: float) -> None:
    figure = plots.time_space(platoon(speed), "x", 0.1, range(3))
    assert figure.axes[0].get_ylabel() == "position (m)"
    assert pieces(figure)[..., 1].max() == pytest.approx(500 + speed * TIME[-1])


def test_the_curve_shows_every_evaluation() -> None:
    axes = plots.learning_curve(LINES, {}, "x").axes[0]
    curves = {line.get_label(): line for line in axes.get_lines()}
    assert list(curves["deterministic"].get_xdata()) == [line["env_steps"] for line in LINES]
    assert list(curves["deterministic"].get_ydata()) == [line["eval/reward"] for line in LINES]
    assert list(curves["sampled"].get_ydata()) == [line["eval/reward_sampled"] for line in LINES]


def test_each_controller_has_a_line_and_a_name_that_no_other_covers() -> None:
    levels = {"a": -54.16, "b": -54.161, "c": -54.9, "d": -839.0, "e": -10.0}
    figure = plots.learning_curve(LINES, levels, "x")
    axes = figure.axes[0]
    at = [line.get_ydata()[0] for line in axes.get_lines() if len(set(line.get_ydata())) == 1]
    assert sorted(at) == sorted(levels.values())
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert sorted(name for text in axes.texts for name in text.get_text().split("\n")) == sorted(levels)
    for one in boxes:
        assert sum(one.overlaps(other) for other in boxes) == 1  # itself


def share_of_height(axes: Axes, value: float) -> float:
    """Place of a value on the y axis: 0 at the bottom, 1 at the top."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, value)))[1])


def test_a_wide_range_of_bad_rewards_does_not_press_the_good_ones_together() -> None:
    axes = plots.learning_curve(LINES, {"crash": -839.0}, "x").axes[0]
    assert axes.get_yscale() == "symlog"
    heights = [share_of_height(axes, value) for value in (-839.0, -60.0, -6.7)]
    assert np.diff(heights).min() > 0.2
    places = sorted(share_of_height(axes, tick) for tick in axes.get_yticks())
    assert 4 <= len(places) <= 12
    assert np.diff(places).min() > 0.05


def test_rewards_of_one_size_are_on_a_linear_axis() -> None:
    lines = [line | {"eval/reward": 5.0 + k, "eval/reward_sampled": 4.0 + k} for k, line in enumerate(LINES)]
    assert plots.learning_curve(lines, {"a": 5.7}, "x").axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    "lines", [[], LINES[:1], [{"env_steps": 0, "eval/reward": 0.0}], [LINES[0] | {"eval/reward": None}]]
)
def test_a_run_of_one_or_no_evaluation_can_be_drawn(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    plots.save(plots.learning_curve(lines, {}, "x"), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_model_errors_are_drawn_for_the_mean_and_for_each_agent() -> None:
    names = [f"model/{key}_error{who}" for key in ("state", "change", "reward") for who in ("", ".0", ".1")]
    lines = [{"env_steps": 100 * k, **dict.fromkeys(names, 0.1 / k)} for k in (1, 2, 3)]
    axes = plots.model_errors(lines, "x").axes[0]
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 9
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["state", "change", "reward"]
    for line in axes.lines:
        assert line.get_ydata() == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_errors_of_models_are_drawn_over_training_and_over_the_horizon(tmp_path: Path) -> None:
    def line(step: int) -> dict[str, Any]:
        one = {f"model/{what}_error{who}": 0.1 / step for what in ("state", "change", "reward") for who in ("", ".0")}
        return {"env_steps": 1000 * step, **one, **{f"model/open_loop_error.{k}": k**2 / step for k in range(1, 6)}}

    folder = RunFolder(tmp_path)
    folder.create("name: x\n")
    with MetricsLog(folder.metrics) as log:
        for step in range(1, 10):
            log.write(line(step))
    plots.draw_run(
        folder.plots,
        metrics=folder.read_metrics(),
        name="x",
        controllers={},
        trajectory={},
        step_seconds=0.1,
        learners=(),
    )
    names = {path.name for path in folder.plots.iterdir()}
    assert {"model_errors.png", "model_horizon.png"} <= names
    curves = plots.model_horizon([line(step) for step in range(1, 10)], "x").axes[0].get_lines()
    assert [list(curve.get_ydata()) for curve in curves[:5]] == [  # type: ignore[arg-type]
        [k**2 / step for k in range(1, 6)] for step in (1, 3, 5, 7, 9)
    ]
