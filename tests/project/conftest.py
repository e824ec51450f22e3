"""Photographs, and a base model as far as `check` looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `check` looks for in a base model; the model itself is not loaded here."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "model_index.json").write_text("{}")
    (folder / "reference_encoder").mkdir()
    (folder / "reference_encoder/config.json").write_text("{}")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for name in ("gear", "shaft"):
        (folder / name).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(folder / name / f"{n}.jpg")
    return folder
