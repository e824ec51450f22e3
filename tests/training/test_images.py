from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shapes import SIZE, TINY, images_of

from partsynth.config.training import Train
from partsynth.core.contrastive.encoder import to_float
from partsynth.core.images import views
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store.png import write_png
from partsynth.training.images import inventory, load_images, random_views


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


def test_views_are_the_usual_ones_by_default_and_their_strengths_leave_no_trace() -> None:
    images = torch.randint(0, 256, (6, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    draws = views.draw(6, 1)
    for kind in ("standard", "randaugment", "both"):
        own = TINY.model_copy(update={"augment": kind})
        assert torch.equal(random_views(images, draws, own), views.augment(to_float(images), draws, kind=kind))
    assert not {"crop", "jitter"} & Train().model_dump().keys()
    assert {"crop", "jitter"} <= Train(crop=0.3, jitter=0.5).model_dump().keys()


def test_jitter_sets_how_far_colours_move_and_crop_how_little_a_view_shows() -> None:
    draws = views.draw(200, 2)
    draws[:, 11] = 1.0  # none is greyed
    x = torch.arange(SIZE, dtype=torch.uint8)
    across = (40 + 4 * x)[None, None, :, None].expand(200, SIZE, SIZE, 3)  # brighter from left to right

    def seen(**changed: float) -> torch.Tensor:
        return random_views(across, draws, Train(size=SIZE, **changed))

    flat = torch.full((200, SIZE, SIZE, 3), 100, dtype=torch.uint8)
    moved = [random_views(flat, draws, Train(jitter=j)).sub(100 / 255).abs().mean() for j in (0.0, 0.5, 1.0, 1.5)]
    assert moved[0] < 1e-6 and moved[1] < moved[2] < moved[3]
    spans = [(v := seen(jitter=0.0, crop=c)[:, 0]).amax((1, 2)) - v.amin((1, 2)) for c in (0.2, 0.6, 1.0)]
    assert spans[0].mean() < spans[1].mean() < spans[2].mean()
    assert spans[0].min() < spans[1].min()
