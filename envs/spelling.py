"""Error messages for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, choices: Iterable[str]) -> str:
    """An error message's hint: ``; did you mean 'x'?`` where one of the choices is near, otherwise nothing."""
    near = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def check_names(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are not known.

    Raises:
        ValueError: for the first of them, with the nearest known name and all there are.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {what} '{name}'{nearest(name, known)} (there are: {', '.join(known)})")
