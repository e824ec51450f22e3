"""Faults that a user can mend, and how they are told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST = 10  # faults that are told at once


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone, without a traceback."""


def listed(faults: Sequence[str], most: int = MOST, separator: str = "\n  ") -> str:
    """The first ``most`` faults, and how many more there are.

    >>> listed(["a", "b", "c", "d"], most=2, separator=", ")
    'a, b, ... and 2 more'
    """
    more = [f"... and {len(faults) - most} more"] if len(faults) > most else []
    return separator.join([*faults[:most], *more])


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """ ", did you mean temperature" where one of ``allowed`` looks like ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f", did you mean {close[0]}" if close else ""


def either(names: Sequence[str]) -> str:
    """The names as alternatives: "'a', 'b' or 'c'"."""
    quoted = [repr(name) for name in names]
    return " or ".join([*([", ".join(quoted[:-1])] if quoted[1:] else []), *quoted[-1:]])
