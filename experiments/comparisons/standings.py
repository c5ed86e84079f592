"""Results of a comparison: the numbers of its report, computed from finished runs, for each scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

import envs
from experiments.comparisons import statistics
from experiments.comparisons.statistics import Estimate, Floats, Improvement
from experiments.config.checks import evaluation_scenario
from experiments.runs.records import RunRecord, by_scenario

REWARD = "eval/reward"
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """A quantity over training: interquartile means over runs at common steps, (G,), and their intervals."""

    steps: Floats
    middle: Floats
    ends: tuple[Floats, Floats] | None


@dataclass(frozen=True)
class VariantResult:
    """One of those compared in a scenario.

    Attributes:
        label: its name.
        runs: one a seed.
    """

    label: str
    runs: list[RunRecord]

    @cached_property
    def finals(self) -> Floats:
        """`eval/reward` of each run's final policy."""
        return _numbers(run.report["metrics"][REWARD] for run in self.runs)

    @cached_property
    def final(self) -> Estimate:
        """Of `finals`."""
        return statistics.estimate(self.finals)

    def final_on(self, label: str) -> Estimate | None:
        """The same where the policies were evaluated as well; None where they do not fit or were not."""
        found = [run.transfers.get(label, {}).get("metrics", {}).get(REWARD) for run in self.runs]
        return None if None in found else statistics.estimate(_numbers(found))

    @cached_property
    def curve(self) -> Curve | None:
        """`eval/reward` over training."""
        return self.over_training(REWARD)

    def over_training(self, key: str) -> Curve | None:
        """A metric at the steps of all runs; None where one of them never had it."""
        curves = [run.curve(key) for run in self.runs]
        if not all(steps for steps, _ in curves):
            return None
        grid, values = statistics.on_common_grid(curves)
        middle, ends = statistics.interquartile_means(values.T)
        return Curve(grid, middle, ends)

    def area(self, until: float) -> Estimate:
        """Mean reward of the evaluations from the first one to `until` steps, between them linearly."""
        curves = [run.curve(REWARD) for run in self.runs]
        return statistics.estimate([statistics.mean_until(until, *curve) if curve[0] else np.nan for curve in curves])

    def mean(self, key: str) -> float | None:
        """Over runs, of a metric of the final policies; None where it is missing."""
        found = [run.report["metrics"].get(key) for run in self.runs]
        return None if None in found else float(np.mean(_numbers(found)))

    @property
    def collisions(self) -> tuple[int, int]:
        """Episodes of the final policies that had one, and all their episodes."""
        collided = sum(run.report["metrics"].get("eval/collisions", 0.0) for run in self.runs)
        return round(collided), sum(len(run.report["episodes"]) for run in self.runs)

    @property
    def env_steps(self) -> float:
        """Environment steps of a run, averaged over runs."""
        return float(np.mean([run.report["env_steps"] for run in self.runs]))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of a run, averaged over runs; runs may have shared the machine."""
        return float(np.mean([run.metrics[-1]["wall_seconds"] if run.metrics else np.nan for run in self.runs]))


@dataclass(frozen=True)
class ScenarioResult:
    """Results of all variants and controllers in one scenario.

    Attributes:
        scenario: its name.
        entries: the best first.
        controllers: metrics by name, the best first.
        bounds: rewards that no policy can pass, by name.
    """

    scenario: str
    entries: list[VariantResult]
    controllers: dict[str, Metrics]
    bounds: dict[str, float]

    @cached_property
    def threshold(self) -> tuple[str, float]:
        """Label and final reward of the entry to reach: the second best or, where there is only one, that one."""
        entry = self.entries[min(1, len(self.entries) - 1)]
        return entry.label, entry.final.value

    @cached_property
    def budget(self) -> float:
        """Steps that every run was evaluated up to."""
        return float(
            min(steps[-1] if steps else 0 for e in self.entries for steps, _ in (r.curve(REWARD) for r in e.runs))
        )

    @property
    def transfer_settings(self) -> list[str]:
        """Labels of the settings of `evaluate_on` that policies were evaluated in."""
        return sorted({label for entry in self.entries for run in entry.runs for label in run.transfers})

    def samples(self, entry: VariantResult) -> int | None:
        """Steps from which on the interquartile mean stays at the threshold or above; None if it ends below."""
        if entry.curve is None:
            return None
        return statistics.samples_to(self.threshold[1], entry.curve.steps, entry.curve.middle)

    def over_best_other(self, entry: VariantResult) -> tuple[str, Improvement] | None:
        """The best of the others, and how probably a run of this entry is better than one of it."""
        other = next((other for other in self.entries if other.label != entry.label), None)
        if other is None:
            return None
        return (other.label, statistics.improvement([(entry.finals, other.finals)]))

    @property
    def best_controller(self) -> str | None:
        """Name of the controller with the highest reward; None without controllers."""
        return next(iter(self.controllers), None)

    def better_controllers(self, entry: VariantResult) -> list[str]:
        """Names of the controllers whose reward is above an entry's."""
        return [name for name, metrics in self.controllers.items() if metrics[REWARD] > entry.final.value]


def scenario_results(records: Sequence[RunRecord]) -> list[ScenarioResult]:
    """Every scenario's result, in the order in which they first come."""
    grouped = by_scenario(records)
    return [
        _scenario_result(name, grouped[name]) for name in dict.fromkeys(r.experiment.scenario.name for r in records)
    ]


def across(found: Sequence[ScenarioResult]) -> dict[tuple[str, str], Improvement]:
    """For those compared in every scenario, how probably one's run is better than the other's; none of one scenario.

    Averaged over scenarios, as probabilities can be and rewards of different scales cannot.
    """
    if len(found) < 2:
        return {}
    entries = [{entry.label: entry for entry in result.entries} for result in found]
    everywhere = [label for label in entries[0] if all(label in there for there in entries)]
    return {
        (one, other): statistics.improvement([(there[one].finals, there[other].finals) for there in entries])
        for one in everywhere
        for other in everywhere
        if one != other
    }


def as_numbers(found: Sequence[ScenarioResult]) -> dict[str, Any]:
    """All numbers of a report, for JSON; what is not finite is null."""
    scenarios = {result.scenario: _scenario_numbers(result) for result in found}
    pairs = [{"better": a, "than": b, **asdict(value.probability)} for (a, b), value in across(found).items()]
    method = {"level": statistics.LEVEL, "resamples": statistics.RESAMPLES, "interval": "percentile, over runs"}
    whole: dict[str, Any] = _finite({"method": method, "scenarios": scenarios, "across_scenarios": pairs})
    return whole


def _scenario_result(scenario: str, groups: Mapping[str, list[RunRecord]]) -> ScenarioResult:
    entries = sorted(
        (VariantResult(label, runs) for label, runs in groups.items()), key=lambda e: -_or_worst(e.final.value)
    )
    controllers: dict[str, Metrics] = {}
    bounds: dict[str, float] = {}
    for entry in entries:
        controllers = entry.runs[0].report["controllers"] | controllers
        bounds = envs.bounds(evaluation_scenario(entry.runs[0].experiment)) | bounds
    ranked = sorted(controllers.items(), key=lambda item: -_or_worst(item[1][REWARD]))
    return ScenarioResult(scenario, entries, dict(ranked), bounds)


def _scenario_numbers(result: ScenarioResult) -> dict[str, Any]:
    of, reward = result.threshold
    return {
        "threshold": {"of": of, "reward": reward},
        "budget": result.budget,
        "entries": {entry.label: _entry_numbers(result, entry) for entry in result.entries},
        "controllers": result.controllers,
        "bounds": result.bounds,
    }


def _entry_numbers(result: ScenarioResult, entry: VariantResult) -> dict[str, Any]:
    other, curve = result.over_best_other(entry), entry.curve
    low, high = curve.ends if curve and curve.ends else (None, None)
    transfers = {label: entry.final_on(label) for label in result.transfer_settings}
    return {
        "seeds": [run.experiment.train.seed for run in entry.runs],
        "final": asdict(entry.final),
        "finals": entry.finals.tolist(),
        "final_on": {label: found and asdict(found) for label, found in transfers.items()},
        "samples_to_threshold": result.samples(entry),
        "mean_until_budget": asdict(entry.area(result.budget)),
        "over_best_other": other and {"other": other[0], **asdict(other[1])},
        "speed": entry.mean("eval/speed"),
        "collisions": dict(zip(("episodes_with", "episodes"), entry.collisions, strict=True)),
        "env_steps": entry.env_steps,
        "seconds": entry.seconds,
        "curve": curve and {"env_steps": curve.steps, "middle": curve.middle, "low": low, "high": high},
    }


def _numbers(values: Any) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _or_worst(value: float | None) -> float:
    return value if value is not None and np.isfinite(value) else -np.inf


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, np.ndarray | list | tuple):
        return [_finite(value) for value in (data.tolist() if isinstance(data, np.ndarray) else data)]
    return None if isinstance(data, float) and not np.isfinite(data) else data
