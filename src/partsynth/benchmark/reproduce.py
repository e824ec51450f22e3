"""`dvc repro` in replicates: their output passed on, their stages timed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partsynth.benchmark.plan import SECONDS, TARGET
from partsynth.errors import UserError
from partsynth.lineage.git import git
from partsynth.project.dvc_process import Running, dvc
from partsynth.project.shipped import checkout
from partsynth.store.files import read_json, write_json
from partsynth.store.layout import Layout

CODE = ("src", "presets", "dvc.yaml", "models/base")  # of the repository: what a benchmark's figures depend on


def is_done(folder: Path) -> bool:
    """Whether a replicate has figures."""
    return (folder / SECONDS).is_file() and Layout(folder).summary.is_file()


def reproduce(
    folder: Path,
    started: float,
    environment: Mapping[str, str],
    running: Running,
    prefix: str = "  ",
    target: str = TARGET,
) -> None:
    """`dvc repro` in a replicate, its output passed on, the seconds of each stage that ran kept in ``SECONDS``.

    Parameters
    ----------
    started : when the time began that counts as the replicate's, as ``time.monotonic`` tells it
    running : whose ``end`` ends this one too
    prefix : of each line that is passed on
    target : stage that is wanted, with all it needs

    Raises
    ------
    UserError
        where it fails; the times of what was finished are kept.
    """
    path = folder / SECONDS
    known: dict[str, Any] = read_json(path) if path.is_file() else {"stages": {}, "total": 0.0}
    clock, code = Clock(), None
    try:
        code = dvc(["repro", target], folder, environment, running, prefix, clock.read)
    finally:
        ran = clock.stop(whole=code == 0)
        if ran:
            total = known["total"] + time.monotonic() - started
            write_json(path, {"stages": known["stages"] | ran, "total": total, "git_commit": commit()})
    if code:
        raise UserError(
            f"dvc repro failed in {folder} (its output is above). Put it right and start the benchmark again: it goes "
            "on where it was"
        )


class Clock:
    """Seconds of each stage, from the lines that `dvc repro` prints."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None

    def read(self, line: str) -> None:
        found = re.match(r"(Running stage|Stage) '([^']+)'", line)
        if found:
            self._end()
            if found.group(1) == "Running stage":
                self._running = found.group(2), time.monotonic()

    def stop(self, whole: bool) -> dict[str, float]:
        """All stages that ended; the last one only where the whole command succeeded."""
        if whole:
            self._end()
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}

    def _end(self) -> None:
        if self._running:
            self.seconds[self._running[0]] = time.monotonic() - self._running[1]
        self._running = None


def commit() -> str:
    """The commit that the package runs from, with ``-dirty`` where code or presets have uncommitted changes."""
    root = checkout()
    if root is None or (named := git(root, "rev-parse", "HEAD")) is None:
        return "unknown (an installed package)"
    dirty = git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return named.decode().strip() + ("-dirty" if dirty else "")
