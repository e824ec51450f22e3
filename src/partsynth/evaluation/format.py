"""Figures as text, the same in every table, page and sentence: per cent, points, and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

NONE = "–"  # where there is no figure


class Estimate(Protocol):
    """A fraction and its interval, if it has one: ``results.Interval`` is one, and so is a difference."""

    @property
    def mean(self) -> float: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def percent(fraction: float, digits: int = 1) -> str:
    """0.7604 -> "76.0", without the sign "%": tables say it once."""
    return _minus(f"{100 * fraction:.{digits}f}")


def points(fraction: float, digits: int = 1) -> str:
    """A difference with its sign: 0.0123 -> "+1.2"; what rounds to zero has none."""
    return _minus(f"{100 * fraction:+.{digits}f}")


def exact(fraction: float) -> str:
    """A number that somebody chose, with no more digits than it has: 0.06 -> "6"."""
    return _minus(f"{100 * fraction:g}")


def level(confidence: float) -> str:
    """0.95 -> "95 %"."""
    return f"{exact(confidence)} %"


def between(found: Estimate, shown: Callable[[float], str] = percent) -> str:
    """ "73.0 to 79.0", the ends of the interval; empty where there is none."""
    if found.low is None or found.high is None:
        return ""
    return f"{shown(found.low)} to {shown(found.high)}"


def bracketed(found: Estimate, shown: Callable[[float], str] = percent) -> str:
    """ "[73.0, 79.0]", the ends of the interval; empty where there is none."""
    return "" if found.low is None or found.high is None else f"[{shown(found.low)}, {shown(found.high)}]"


def estimate(found: Estimate | None, shown: Callable[[float], str] = percent) -> str:
    """ "76.0 [73.0, 79.0]": the mean, and its interval if it has one."""
    return NONE if found is None else f"{shown(found.mean)} {bracketed(found, shown)}".rstrip()


def _minus(text: str) -> str:
    """A minus sign in place of the hyphen, and no sign before a zero."""
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")
