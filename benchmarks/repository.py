"""The repository that the benchmarks lie in."""

from __future__ import annotations

from pathlib import Path

from partsynth.lineage.git import git

ROOT = Path(__file__).parents[1]
SHORT, WHOLE, MARKED = ("rev-parse", "--short", "HEAD"), ("rev-parse", "HEAD"), ("describe", "--always", "--dirty")


def commit(form: tuple[str, ...] = SHORT) -> str:
    """The commit that is checked out, as pages and figures name it; empty outside git."""
    return (git(ROOT, *form) or b"").decode().strip()
