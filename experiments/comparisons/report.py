"""The report of a comparison: one HTML file that needs nothing else, its numbers as JSON and its pictures as PNG."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import networkx as nx
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.comparisons import diagrams, plots, wording
from experiments.comparisons.plots import LineStyle
from experiments.comparisons.standings import (
    REWARD,
    Metrics,
    ScenarioResult,
    VariantResult,
    across,
    as_numbers,
    scenario_results,
)
from experiments.config import loading
from experiments.config.checks import communication_graph
from experiments.drawing import plots as run_plots
from experiments.errors import ConfigError, shown
from experiments.runs.folder import write_whole
from experiments.runs.records import RunRecord

_NOT_COMPARED = ("name", "train.seed")  # of a configuration: differs between seeds, or is but a name
_ABSENT = "–"


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        source: a data URL.
        caption: below it, and read out in its place.
        style: of the picture, in CSS.
        wide: whether it has a row of its own.
    """

    source: str
    caption: str
    style: str
    wide: bool


def write(records: Sequence[RunRecord], output: Path, title: str, command: str) -> Path:
    """Write `report.html`, `statistics.json` and `plots/` into a folder; the same records give the same bytes.

    Args:
        records: finished runs, at least one.
        output: the folder, made where it is missing; an earlier report there is replaced.
        title: of the page.
        command: that made the comparison, as one would type it.

    Returns:
        The page.

    Raises:
        ConfigError: the folder is that of a run, or cannot be made.
    """
    if (output / "config.yaml").exists():
        raise ConfigError(f"--output: {shown(str(output), 300)} is the folder of a run; choose another")
    try:
        (output / "plots").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: {shown(str(output), 300)} cannot be used: {error.strerror}") from error
    found = scenario_results(records)
    line_styles = plots.line_styles(found)
    page = _template().render(
        title=title,
        summary=wording.summary(found),
        command=command,
        scenarios=[_scenario(result, line_styles, output / "plots") for result in found],
        overview=[_overview(result) for result in found] if len(found) > 1 else [],
        across=_across(found),
        versions=_versions(records),
        runs=len(records),
    )
    write_whole(output / "statistics.json", json.dumps(as_numbers(found), indent=1, ensure_ascii=False) + "\n")
    write_whole(output / "report.html", page)
    return output / "report.html"


def _template() -> Any:
    source = (resources.files("experiments.comparisons") / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    return environment.from_string(source)


def _breakable(text: str) -> Markup:
    """Text, escaped, that may go on in the next line between words joined by `_`, `.` or `-`."""
    return Markup("<wbr>").join(re.split(r"(?<=[_.-])(?=[^\W\d])", text))


def _scenario(result: ScenarioResult, line_styles: dict[str, LineStyle], folder: Path) -> dict[str, Any]:
    of, reward = result.threshold
    differing = _differences(result.entries)
    episodes = len(result.entries[0].runs[0].report["episodes"])
    return {
        "name": result.scenario,
        "anchor": _file_name(result.scenario),
        "verdict": wording.verdict(result),
        "threshold": f"{wording.number(reward)}, the final reward of {of}",
        "budget": wording.steps(result.budget),
        "rows": [_row(result, entry, line_styles[entry.label]) for entry in result.entries],
        "controllers": [_controller_row(name, found, episodes) for name, found in result.controllers.items()],
        "bounds": [(name, wording.number(value)) for name, value in result.bounds.items()],
        "transfer_settings": result.transfer_settings,
        "transfers": [_transfer(result, entry) for entry in result.entries] if result.transfer_settings else [],
        "pictures": _pictures(result, line_styles, folder),
        "labels": [entry.label for entry in result.entries],
        "differences": [row for row in differing if _ABSENT not in row[1]],
        "only_some": [row for row in differing if _ABSENT in row[1]],
        "configurations": [(e.label, loading.dump(e.runs[0].experiment)) for e in result.entries],
        "runs": [_run(entry.label, run) for entry in result.entries for run in entry.runs],
    }


def _row(result: ScenarioResult, entry: VariantResult, line_style: LineStyle) -> dict[str, Any]:
    other, area = result.over_best_other(entry), entry.area(result.budget)
    return {
        "label": entry.label,
        "color": line_style.color,
        "seeds": len(entry.runs),
        "final": wording.number(entry.final.value),
        "interval": wording.interval(entry.final),
        "samples": wording.steps(result.samples(entry)),
        "area": wording.number(area.value),
        "area_interval": wording.interval(area),
        "better": wording.share(other[1].probability.value if other else None),
        "better_interval": wording.shares(other[1].probability) if other else "",
        "collisions": wording.collisions(entry.collisions),
        "speed": wording.number(entry.mean("eval/speed")),
        "env_steps": wording.steps(entry.env_steps),
        "seconds": f"{entry.seconds:,.0f}",
    }


def _transfer(result: ScenarioResult, entry: VariantResult) -> tuple[str, list[tuple[str, str]]]:
    """A label, and its final reward as trained and in each setting of transfer, each with its interval."""
    found = [entry.final, *(entry.final_on(label) for label in result.transfer_settings)]
    return entry.label, [(wording.number(x.value), wording.interval(x)) if x else ("does not fit", "") for x in found]


def _controller_row(name: str, metrics: Metrics, episodes: int) -> dict[str, str]:
    return {
        "label": name,
        "final": wording.number(metrics[REWARD]),
        "collisions": wording.collisions((round(metrics["eval/collisions"]), episodes)),
        "speed": wording.number(metrics.get("eval/speed")),
    }


def _run(label: str, run: RunRecord) -> dict[str, Any]:
    metrics = run.report["metrics"]
    return {
        "label": label,
        "seed": run.experiment.train.seed,
        "final": wording.number(metrics[REWARD]),
        "sampled": wording.number(metrics.get("eval/reward_sampled")),
        "speed": wording.number(metrics.get("eval/speed")),
        "collisions": wording.collisions((round(metrics.get("eval/collisions", 0)), len(run.report["episodes"]))),
        "env_steps": wording.steps(run.report["env_steps"]),
        "seconds": f"{VariantResult(label, [run]).seconds:,.0f}",
        "folder": run.folder.path.resolve().name,
    }


def _overview(result: ScenarioResult) -> dict[str, Any]:
    best, controller = result.entries[0], result.best_controller
    other = result.over_best_other(best)
    return {
        "scenario": result.scenario,
        "anchor": _file_name(result.scenario),
        "best": best.label,
        "final": wording.number(best.final.value),
        "interval": wording.interval(best.final),
        "second": other[0] if other else "–",
        "better": wording.share(other[1].probability.value if other else None),
        "better_interval": wording.shares(other[1].probability) if other else "",
        "controller": controller or "–",
        "reward": wording.number(result.controllers[controller][REWARD]) if controller else "–",
        "beaten": bool(result.better_controllers(best)),
    }


def _across(found: Sequence[ScenarioResult]) -> dict[str, Any] | None:
    """The probabilities that a row's run beats a column's, over all scenarios."""
    pairs = across(found)
    labels = list(dict.fromkeys(one for one, _ in pairs))

    def cell(one: str, other: str) -> tuple[str, str]:
        if one == other:
            return "", ""
        probability = pairs[one, other].probability
        return wording.share(probability.value), wording.shares(probability)

    return (
        {"labels": labels, "rows": [(one, [cell(one, other) for other in labels]) for one in labels]}
        if labels
        else None
    )


def _pictures(result: ScenarioResult, line_styles: dict[str, LineStyle], folder: Path) -> list[Picture]:
    name, start = result.scenario, f"{_file_name(result.scenario)}_"
    found = [
        _picture(
            plots.learning_curves(result, line_styles),
            folder / f"{start}learning_curves.png",
            f"Learning curves on {name}: interquartile means over runs, with 95 % intervals; dashed, the best "
            "controllers and the known bounds.",
        ),
        _picture(
            plots.final_results(result, line_styles),
            folder / f"{start}final_results.png",
            f"Final results on {name}: interquartile means with 95 % intervals, faintly each run, and controllers.",
        ),
    ]
    errors = plots.model_errors(result, line_styles)
    if errors is not None:
        caption = f"Errors of the models on {name}, one step ahead on trajectories held out, as shares of the variance."
        found.append(_picture(errors, folder / f"{start}model_errors.png", caption))
    return found + _graphs(result, folder, start) + _episodes(result, folder / f"{start}time_space.png")


def _graphs(result: ScenarioResult, folder: Path, start: str) -> list[Picture]:
    """Each distinct communication graph, and whose it is."""
    found: list[tuple[nx.Graph, list[str]]] = []
    for entry in result.entries:
        experiment = entry.runs[0].experiment
        graph = communication_graph(experiment, experiment.scenario)
        same = next((users for there, users in found if nx.utils.graphs_equal(there, graph)), None)
        if same is None:
            found.append((graph, [entry.label]))
        else:
            same.append(entry.label)
    pictures = []
    for k, (graph, users) in enumerate(found):
        caption = f"Who talks to whom in {wording.listed(users)}: {diagrams.describe_graph(graph)}."
        drawn = diagrams.communication_graph(graph)
        pictures.append(_picture(drawn, folder / f"{start}graph_{k}.png", caption, "max-width: 22rem"))
    return pictures


def _episodes(result: ScenarioResult, path: Path) -> list[Picture]:
    figure = diagrams.time_spaces({e.label: e.runs[0].folder.read_trajectory() for e in result.entries})
    if figure is None:
        return []
    caption = (
        f"{result.scenario} in time and space: the final policy of each one's first seed, from the first reference "
        "start; a line is a vehicle."
    )
    # Rather scrolled than made too small to read.
    return [_picture(figure, path, caption, f"min-width: {80 * figure.get_figwidth():.0f}px", wide=True)]


def _picture(figure: Figure, path: Path, caption: str, style: str = "", wide: bool = False) -> Picture:
    run_plots.save(figure, path, few_colors=True)
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(f"data:image/png;base64,{data}", caption, style, wide)


def _differences(entries: Sequence[VariantResult]) -> list[tuple[str, list[str]]]:
    """Keys whose values are not everywhere the same, with each label's value."""
    columns = [[loading.flatten(run.experiment.model_dump(mode="json")) for run in entry.runs] for entry in entries]
    keys = dict.fromkeys(key for runs in columns for flat in runs for key in flat)
    rows = [(key, [_values(runs, key) for runs in columns]) for key in keys if key not in _NOT_COMPARED]
    return [(key, values) for key, values in rows if len(set(values)) > 1 or " | " in values[0]]


def _values(runs: Sequence[dict[str, Any]], key: str) -> str:
    return " | ".join(dict.fromkeys(json.dumps(flat[key]) if key in flat else _ABSENT for flat in runs))


def _versions(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    names = dict.fromkeys(name for record in records for name in record.report["versions"])
    found = {name: dict.fromkeys(record.report["versions"].get(name, "–") for record in records) for name in names}
    return [(name, ", ".join(versions)) for name, versions in found.items()]


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)
