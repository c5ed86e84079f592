"""Spelling hints, and the error message for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name whose spelling is nearest to a word; None where none is near."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    near = difflib.get_close_matches(word[:100].casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def hint(word: str, known: Iterable[str]) -> str:
    """An error message's ``; did you mean 'x'?`` where a known name is near, otherwise an empty text."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def check_names(kind: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are not known.

    Args:
        kind: what the names are names of, in the singular.
        given: the names.
        known: all that are possible.

    Raises:
        ValueError: for the first unknown name, with the nearest known one and all there are.
    """
    for name in given:
        if name not in known:
            possible = f"there are: {', '.join(known)}" if known else "there are none"
            raise ValueError(f"there is no {kind} '{name}'{hint(name, known)} ({possible})")
