"""Images read through their records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.rows import augmented, real_row

from partsynth.errors import UserError
from partsynth.records.images import read_image, table_of
from partsynth.records.rows import SelectedRecord
from partsynth.store.png import write_png


def test_a_picture_other_than_its_record_is_refused(tmp_path: Path) -> None:
    sha = write_png(tmp_path / "a.png", np.full((8, 8), 7, np.uint8))
    row = real_row("a/1", "train", "g", path="a.png", sha256=sha)
    assert read_image(tmp_path, row).size == (8, 8)
    assert read_image(tmp_path, row).mode == "RGB"
    with pytest.raises(UserError, match="8 x 8 pixels, expected 64 x 64"):
        read_image(tmp_path, row, size=64)
    write_png(tmp_path / "a.png", np.full((8, 8), 8, np.uint8))
    with pytest.raises(UserError, match="differs from its manifest"):
        read_image(tmp_path, row)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="dvc checkout"):
        read_image(tmp_path, row)


def test_the_table_that_an_image_differs_from_is_named() -> None:
    real, held_out = real_row("gear/1", "train", "g"), real_row("a/1", "test", "g", path="data/ood/near/test/a/1.png")
    chosen = SelectedRecord(
        path=real.path, sha256="x", class_name="gear", role="positive", origin="real", source=real.path, group="g"
    )
    assert [table_of(row) for row in (real, held_out, augmented(real, "1-v0"), chosen)] == [
        "data/real/manifest.csv",
        "data/ood/manifest.csv",
        "data/augmented/id/manifest.csv",
        "its table of data/selected",
    ]
    assert table_of(real_row("a/1", "train", "g", path="a.png")) == "its manifest.csv"
