"""Runs of trainings that train nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from partsynth.tracking.run import RunSpec, TrainingRun, training_run

IDENTITY = "f" * 64


def start(root: Path, fingerprint: str = IDENTITY, **spec: object) -> AbstractContextManager[TrainingRun]:
    """``training_run`` of setup real, seed 1; ``spec`` are further fields of RunSpec."""
    given = {"stage": "train", "setup": "real", "seed": 1, "params": {"train": {"temperature": 0.1}}} | spec
    return training_run(root, RunSpec(fingerprint=fingerprint, **given))
