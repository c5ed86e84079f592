"""Errors of the command line. A mistake of the user's has one line a problem, which begins with the key's path."""

import json
import math
from collections.abc import Sequence

SHOWN = 20  # problems listed before the rest is only counted


class ConfigError(ValueError):
    """Mistake in what the user gave; `problems` holds one line each. The command line exits with status 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        rest = len(self.problems) - SHOWN
        super().__init__("\n".join(self.problems[:SHOWN] + ([f"… and {rest} more"] if rest > 0 else [])))


class RunError(RuntimeError):
    """Failure of a run through no mistake of the user's. The command line exits with status 1."""


def refusal(path: str, value: object, allowed: str) -> str:
    """Message such as `algorithm.kappa: -1 is not possible; allowed: a whole number of at least 0`."""
    return f"{path}: {shown(value)} is not possible; allowed: {allowed}"


def shown(value: object, limit: int = 60) -> str:
    """Text of a value as in YAML, cut to `limit` characters and printable on any terminal."""
    if isinstance(value, float) and not math.isfinite(value):
        return "." + str(value)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def suggestion(word: str, known: Sequence[str], limit: int = 40) -> str:
    """Hint such as `did you mean cycle? allowed: complete, cycle, …`, without the question where nothing is near."""
    from graphs.spelling import nearest  # here, as what only helps or refuses an option need not load the environments

    near = nearest(word, known)
    question = f"did you mean {near}? " if near else ""
    listed = ", ".join(known[:limit]) + (", …" if len(known) > limit else "")
    return f"{question}allowed: {listed or 'nothing'}"
