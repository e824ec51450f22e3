from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.shapes import SIZE, images_of

from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store.png import write_png
from partsynth.training.images import inventory, load_images


def test_altered_and_missing_images_are_all_named(project: Path) -> None:
    write_png(project / "data/real/train/bar/0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    (project / "data/augmented/id/disc/1.png").unlink()
    (project / "data/real/val/disc/0.png").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        images_of(project)
    told = str(caught.value)
    assert "3 images" in told and "train/bar/0.png differs" in told and "val/disc/0.png" in told
    assert "id/disc/1.png is in the manifest but missing" in told


def test_rows_become_arrays(project: Path) -> None:
    images = images_of(project)
    assert images.classes == ["bar", "disc", "square"]
    assert images.images.shape == (45, SIZE, SIZE, 3) and images.val_images.shape == (9, SIZE, SIZE, 3)
    assert images.is_real.sum() == images.is_negative.sum() == 15 and images.is_synthetic.sum() == 30
    assert images.is_real[images.source].all()  # each goes back to a real image ...
    np.testing.assert_array_equal(images.labels[images.source], images.labels)  # ... of its class


def test_no_validation_images_and_another_size(project: Path) -> None:
    rows = read_manifest(project / "data/selected/real.csv", SelectedRecord)
    images = load_images(rows, [], 24, project)
    assert images.images.shape == (15, 24, 24, 3) and images.val_images.shape == (0, 24, 24, 3)


def test_an_inventory_counts_roles(project: Path) -> None:
    rows = read_manifest(project / "data/selected/real_id_negatives.csv", SelectedRecord)
    assert inventory(rows) == "3 classes, 15 real, 15 synthetic positives, 15 negatives"
