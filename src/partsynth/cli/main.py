"""The whole command line: importing a module registers its commands, in the order that `--help` shows."""

from __future__ import annotations

from partsynth.cli import audit, benchmark, evaluate, project, serving, stages, study
from partsynth.cli.app import app

__all__ = ["app", "audit", "benchmark", "evaluate", "main", "project", "serving", "stages", "study"]


def main() -> None:
    app()
