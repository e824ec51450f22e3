from __future__ import annotations

import numpy as np
import pytest
from helpers.parts import edges, part
from helpers.rows import augmented, real_row
from PIL import Image

from partsynth.core.images import stats
from partsynth.errors import UserError
from partsynth.quality.measure import Measured, measure
from partsynth.records.rows import RealRecord
from partsynth.store.png import write_png


@pytest.fixture
def rows(tmp_path) -> list[RealRecord]:
    plain = [real_row(f"gear/{i}", "train", f"g{i}") for i in range(5)]
    written = [write_png(tmp_path / row.path, part("gear", i)) for i, row in enumerate(plain)]
    return [row.model_copy(update={"sha256": sha256}) for row, sha256 in zip(plain, written, strict=True)]


def go(root, rows, batch_size: int = 2) -> tuple[Measured, list[int]]:
    """What was measured, and the sizes of the batches that were embedded for it."""
    batches = []

    def embed(images: list[Image.Image]) -> np.ndarray:
        batches.append(len(images))
        return edges(images)

    return measure(rows, root, embed, batch_size, root / "cache"), batches


def same(a: Measured, b: Measured) -> bool:
    names = [(a.features, b.features), *((getattr(a.stats, n), getattr(b.stats, n)) for n in stats.NAMES)]
    return all(np.array_equal(x, y, equal_nan=True) for x, y in names)


def test_every_image_is_measured_in_the_order_of_the_rows(tmp_path, rows):
    found, batches = go(tmp_path, rows)
    images = [part("gear", i) for i in range(5)]
    np.testing.assert_allclose(found.features, edges(images), atol=1e-6)
    np.testing.assert_array_equal(found.stats.sharpness, [stats.measure(image)[0] for image in images])
    assert batches == [2, 2, 2]
    assert same(found.take([3, 1]), go(tmp_path, [rows[3], rows[1]])[0])


def test_what_is_known_is_not_opened(tmp_path, rows):
    first, _ = go(tmp_path, rows[:4])
    for row in rows[:4]:
        (tmp_path / row.path).unlink()
    again, batches = go(tmp_path, rows[:4])
    assert same(first, again) and batches == []
    more, batches = go(tmp_path, [rows[4], *rows[:4]])
    assert batches == [2] and same(more.take([1, 2, 3, 4]), first)


def test_the_cache_keeps_what_the_rows_have(tmp_path, rows):
    go(tmp_path, rows)
    go(tmp_path, [rows[0].model_copy(update={"path": "data/real/elsewhere.png"})])  # the same content
    assert go(tmp_path, rows)[1] == []
    write_png(tmp_path / rows[0].path, part("disc", 9))
    with pytest.raises(UserError, match="differs from its manifest"):
        (tmp_path / "cache").unlink()
        go(tmp_path, rows)


def test_one_content_twice_is_measured_once(tmp_path, rows):
    twin = rows[0].model_copy(update={"path": "data/real/train/gear/twin.png"})
    write_png(tmp_path / twin.path, part("gear", 0))
    found, batches = go(tmp_path, [rows[0], twin])
    assert batches == [2] and same(found.take([0]), found.take([1]))


def test_generated_images_are_compared_with_their_sources(tmp_path, rows):
    edits = [augmented(rows[0], "copy"), augmented(rows[1], "other")]
    sha256 = [write_png(tmp_path / row.path, part("gear", i)) for row, i in zip(edits, (0, 7), strict=True)]
    edits = [row.model_copy(update={"sha256": one}) for row, one in zip(edits, sha256, strict=True)]
    found = measure(edits, tmp_path, edges, 2, tmp_path / "cache", rows)
    assert found.stats.similarity[0] == pytest.approx(1) and found.stats.similarity[1] < 0.99
    for row in rows:
        (tmp_path / row.path).unlink()
    assert same(measure(edits, tmp_path, edges, 2, tmp_path / "cache", rows), found)


def test_no_images(tmp_path):
    found, batches = go(tmp_path, [])
    assert len(found.features) == len(found.stats.sharpness) == 0 and batches == []
    assert not (tmp_path / "cache").exists()
