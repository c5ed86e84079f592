from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from experiments.comparisons import plots
from experiments.comparisons.standings import ScenarioResult, scenario_results
from experiments.drawing import plots as run_plots
from tests.experiments.comparing import make_run, two_variants


@pytest.fixture
def result(tmp_path: Path) -> ScenarioResult:
    return scenario_results(two_variants(tmp_path))[0]


def test_a_label_looks_the_same_everywhere_and_unlike_those_it_meets(tmp_path: Path) -> None:
    ring = [make_run(tmp_path, label, 0, [-9.0, -3.0], "scenario.name=ring") for label in ("fast", "third")]
    found = scenario_results(two_variants(tmp_path) + ring)
    line_styles = plots.line_styles(found)
    assert line_styles == plots.line_styles(found[::-1])
    assert line_styles["fast"] not in (line_styles["slow"], line_styles["third"])


def test_the_first_looks_are_apart_without_colors() -> None:
    line_styles = [plots._line_style(number) for number in range(4)]
    assert len({(line_style.mark, line_style.dashes) for line_style in line_styles}) == 4
    for line_style in line_styles:  # none is too light for white
        assert np.dot(to_rgb(line_style.color), (0.299, 0.587, 0.114)) < 0.65


def test_learning_curves_have_their_intervals_and_the_controllers(result: ScenarioResult) -> None:
    figure = plots.learning_curves(result, plots.line_styles([result]))
    (axes,) = figure.axes
    curves = [line for line in axes.lines if len(set(np.atleast_1d(line.get_ydata()))) > 1]
    assert [list(line.get_xdata()) for line in curves] == [
        [0, 100, 200],
        sorted({every * k for every in (90, 91, 92) for k in range(4)}),
    ]
    assert [line.get_ydata()[-1] for line in curves] == pytest.approx([-3.1, -6.0])
    assert len(axes.collections) == 2  # a band for each
    assert {text.get_text() for text in axes.texts} == {"push", "still"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fast", "slow"]


def test_final_results_have_a_row_for_each_and_say_where_those_outside_are(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "a", s, [-9.0, -3.0 - s], controllers={"good": -3.5, "bad": -900.0}) for s in range(3)]
    (result,) = scenario_results(runs)
    (axes,) = plots.final_results(result, plots.line_styles([result])).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "good", "bad"]
    assert [text.get_text() for text in axes.texts] == ["◂ −900"]
    low, high = axes.get_xlim()
    assert low < -5.0 < -3.0 < high


def test_model_errors_are_drawn_of_those_that_have_models(tmp_path: Path, result: ScenarioResult) -> None:
    assert plots.model_errors(result, plots.line_styles([result])) is None
    extra = {"model/state_error": 0.01, "model/reward_error": 0.1}
    (with_models,) = scenario_results(two_variants(tmp_path / "models", extra=extra))
    figure = plots.model_errors(with_models, plots.line_styles([with_models]))
    assert figure is not None
    state, reward = figure.axes
    assert np.array([axes.lines[0].get_ydata() for axes in (state, reward)]) == pytest.approx(
        np.array([[0.01] * 2, [0.1] * 2])
    )
    assert state.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fast"]


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    name = "_hidden $x^{ " + "long " * 50
    (result,) = scenario_results([make_run(tmp_path, name, 0, [-9.0, -3.0], controllers={name: -4.0})])
    line_style = plots.line_styles([result])
    for draw in (plots.learning_curves, plots.final_results):
        run_plots.save(draw(result, line_style), tmp_path / "picture.png")


@pytest.mark.parametrize("rewards", [[-3.0], [-9.0, None], [-9.0, -9.0]])
def test_few_or_lost_evaluations_can_be_drawn(rewards: list[float | None], tmp_path: Path) -> None:
    (result,) = scenario_results([make_run(tmp_path, "a", seed, rewards, controllers={}) for seed in range(2)])
    line_style = plots.line_styles([result])
    for draw in (plots.learning_curves, plots.final_results):
        run_plots.save(draw(result, line_style), tmp_path / "picture.png")
