"""What somebody who misspelt a name probably meant, and error messages for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known spelling that ``word`` was probably meant to be."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    near = difflib.get_close_matches(word[:100].casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def hint(word: str, known: Iterable[str]) -> str:
    """An error message's ``; did you mean 'x'?`` where one of the known is near, otherwise nothing."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def check_names(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are not known.

    Raises:
        ValueError: for the first of them, with the nearest known name and all there are.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {what} '{name}'{hint(name, known)} (there are: {', '.join(known)})")
