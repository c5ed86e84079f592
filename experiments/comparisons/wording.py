"""Numbers and results of a comparison in words."""

import math
from collections.abc import Sequence

from experiments.comparisons.standings import REWARD, ScenarioResult, VariantResult
from experiments.comparisons.statistics import Estimate

SETTLED = 0.05  # the p-value below which a difference is not put down to the seeds


def number(value: float | None) -> str:
    """Four digits, with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return text.replace("-", "−")


def interval(estimate: Estimate) -> str:
    """`−5.64 to −4.45`; nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def share(value: float | None) -> str:
    """A probability; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}"


def shares(estimate: Estimate) -> str:
    """The interval of a probability; nothing where there is none."""
    return "" if estimate.low is None else f"{share(estimate.low)} to {share(estimate.high)}"


def steps(count: float | None) -> str:
    """A number of environment steps; `never` for none."""
    return "never" if count is None else f"{count:,.0f}"


def collisions(found: tuple[int, int]) -> str:
    """Episodes with one, of how many."""
    return "none" if found[0] == 0 else f"{found[0]} of {found[1]}"


def runs(count: int) -> str:
    """`1 run`, `3 runs`."""
    return f"{count} run{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def summary(found: Sequence[ScenarioResult]) -> str:
    """Summary of a comparison: the winner of each scenario or, of a single scenario, its verdict."""
    if len(found) == 1:
        return verdict(found[0])
    wins: dict[str, list[str]] = {}
    for result in found:
        wins.setdefault(_winner(result), []).append(result.scenario)
    return f"{'; '.join(f'{winner} wins in {listed(scenarios)}' for winner, scenarios in wins.items())}."


def verdict(result: ScenarioResult) -> str:
    """Verdict on a scenario: the winner, which may be a controller, its lead, and whether that is more than chance."""
    best, controller = result.entries[0], result.best_controller
    if not math.isfinite(best.final.value):
        return "No variant has a finite final reward in all of its runs."
    if controller is not None and result.better_controllers(best):
        reward = number(result.controllers[controller][REWARD])
        opening = (
            f"The controller {controller} wins with {reward}, and nothing was learned for it. Of what was learned, "
        )
        return f"{opening}{best.label} is best with {_result(best)}{_lead(result)}."
    rest = "" if controller is None else (
        f" The best controller, {controller}, gets {number(result.controllers[controller][REWARD])}."
    )  # fmt: skip
    if len(result.entries) == 1:
        return f"{best.label} gets {_result(best)}.{rest}"
    return f"{best.label} wins with {_result(best)}{_lead(result)}.{rest}"


def _winner(result: ScenarioResult) -> str:
    best, controller = result.entries[0], result.best_controller
    if not math.isfinite(best.final.value):
        return "nobody"
    return f"the controller {controller}" if result.better_controllers(best) else best.label


def _result(entry: VariantResult) -> str:
    ends = interval(entry.final)
    words = f"{ends}, {runs(len(entry.runs))}" if ends else "one run, so no interval"
    collided = entry.collisions
    crash = f", collisions in {collisions(collided)} episodes" if collided[0] else ""
    return f"{number(entry.final.value)} ({words}{crash})"


def _lead(result: ScenarioResult) -> str:
    """`, before b with …`, and what that is worth."""
    best = result.entries[0]
    beaten = result.over_best_other(best)
    if beaten is None:
        return ""
    other, found = result.entries[1], beaten[1]
    if not math.isfinite(other.final.value):
        return f", before {other.label}, which has no finite final reward"
    counts = f"{len(best.runs)} against {runs(len(other.runs))}"
    if found.p_value is not None and found.p_value < SETTLED:
        worth = f"p\u00a0=\u00a0{found.p_value:.2g} with {counts}"
    else:
        worth = f"not settled by {counts}, p\u00a0=\u00a0{found.p_value or math.nan:.2g}"
    chance = f"a run of the one is better than a run of the other with probability {share(found.probability.value)}"
    return f", before {other.label} with {_result(other)}: {chance} ({worth})"
