"""Photographs, and a tiny base model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import in_process
from PIL import Image


@pytest.fixture
def dvc_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` calls DVC in this process."""

    def dvc(folder: Path, *arguments: str) -> None:
        done = in_process.dvc(folder, *arguments, variables=os.environ)
        assert not done.code, done

    monkeypatch.setattr("partsynth.project.init._dvc", dvc)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with its reference encoder, as `check` opens them."""
    from helpers import tiny_sd

    from partsynth.core.drift.reference import ReferenceNet, save

    folder = tiny_sd.build(tmp_path_factory.mktemp("base") / "model")
    save(ReferenceNet((8, 8), 8), folder / "reference_encoder", 32)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for name in ("gear", "shaft"):
        (folder / name).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(folder / name / f"{n}.jpg")
    return folder
