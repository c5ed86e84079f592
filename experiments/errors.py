"""The one error for whatever a user gave that cannot be: one line a problem, each beginning with the key's path."""

import json
import math
from collections.abc import Sequence

SHOWN = 20  # problems listed before the rest is only counted


class ConfigError(ValueError):
    """What the user gave cannot be run; `problems` says why, one line each. The command line exits with status 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        rest = len(self.problems) - SHOWN
        super().__init__("\n".join(self.problems[:SHOWN] + ([f"… and {rest} more"] if rest > 0 else [])))


class RunError(RuntimeError):
    """A run could not be finished, through no mistake in what the user gave; exit status 1."""


def refusal(path: str, value: object, allowed: str) -> str:
    """`algorithm.kappa: -1 is not possible; allowed: a whole number of at least 0`."""
    return f"{path}: {shown(value)} is not possible; allowed: {allowed}"


def shown(value: object, limit: int = 60) -> str:
    """A value as one would write it in YAML, cut to `limit` characters and printable on any terminal."""
    if isinstance(value, float) and not math.isfinite(value):
        return "." + str(value)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def suggestion(word: str, known: Sequence[str], limit: int = 40) -> str:
    """`did you mean "cycle"? allowed: complete, cycle, …`, without the question where nothing is near."""
    from graphs.spelling import nearest  # here, as what only helps or refuses an option need not load the environments

    near = nearest(word, known)
    question = f"did you mean {near}? " if near else ""
    listed = ", ".join(known[:limit]) + (", …" if len(known) > limit else "")
    return f"{question}allowed: {listed or 'nothing'}"
