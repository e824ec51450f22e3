import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from partsynth.core.images import duplicates
from partsynth.core.images.duplicates import (
    HASH_BITS,
    detail_correlation,
    near_pairs,
    perceptual_hash,
    thumbnail,
    turned_pairs,
)

LIMIT = 8


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).resize((240, 160), Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (160, 240, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return Image.blend(noise, fine, 0.4)


def reencoded(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    smaller = image.resize((200, 133), Image.Resampling.BICUBIC)
    Image.eval(smaller, lambda v: min(255, int(v * 1.05))).save(buffer, "JPEG", quality=85)
    return Image.open(buffer)


def bits(a: Image.Image, b: Image.Image) -> int:
    return int(np.bitwise_count(perceptual_hash(thumbnail(a)) ^ perceptual_hash(thumbnail(b))).sum())


def test_copies_are_close_and_others_far():
    copies = [bits(picture(i), reencoded(picture(i))) for i in range(10)]
    others = [bits(picture(i), picture(i + 1)) for i in range(10)]
    assert max(copies) <= LIMIT
    assert min(others) > HASH_BITS / 4


@pytest.mark.parametrize("limit", [0, 3, 8, 40, HASH_BITS])
def test_pieces_find_what_comparing_all_finds(limit):
    rng = np.random.default_rng(limit)
    hashes = rng.integers(0, 2**63, (300, 4), dtype=np.uint64)
    theirs = hashes[rng.permutation(300)]
    for row in theirs[::2]:  # up to twice the limit apart
        for bit in rng.integers(0, HASH_BITS, int(rng.integers(0, 2 * limit + 2))):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    parts = rng.integers(0, 3, 300)
    blocks = list(duplicates._close(hashes, theirs, parts, limit, 64))
    wanted = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    found = duplicates._close_by_pieces(hashes, theirs, parts, limit)
    if limit == HASH_BITS:
        assert found is None and len(wanted[0]) > 10_000
        return
    assert found is not None and len(wanted[0]) > 20
    np.testing.assert_array_equal(found, wanted)


def test_where_too_many_hashes_are_alike_all_are_compared(monkeypatch):
    thumbs = np.stack([thumbnail(i) for i in (picture(0), picture(1), reencoded(picture(0)))] * 3)
    parts = np.arange(9)
    found = near_pairs(thumbs, parts, LIMIT), turned_pairs(thumbs, parts, LIMIT)
    monkeypatch.setattr(duplicates, "MOST", 0)
    assert duplicates._close_by_pieces(*[duplicates._hashes(thumbs)] * 2, parts, LIMIT) is None
    assert (near_pairs(thumbs, parts, LIMIT), turned_pairs(thumbs, parts, LIMIT)) == found
    assert len(found[0]) == 18


def test_near_pairs_crosses_parts_only():
    images = [picture(0), picture(1), reencoded(picture(0)), reencoded(picture(1)), picture(2)]
    thumbs = np.stack([thumbnail(i) for i in images])
    parts = np.array([0, 0, 1, 0, 1])
    for block in (1, 2, 1024):
        assert [(i, j) for i, j, _ in near_pairs(thumbs, parts, LIMIT, block)] == [(0, 2)]
    assert near_pairs(thumbs[:0], parts[:0], LIMIT) == []


def test_one_rig_with_another_surface_is_no_duplicate():
    """Same low frequencies, other detail: two spots of one machine."""
    base = np.asarray(picture(0).filter(ImageFilter.GaussianBlur(6)).convert("L"), np.float32)
    spots = []
    for seed in (1, 2):
        grain = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (160, 240), np.uint8))
        texture = np.asarray(grain.filter(ImageFilter.GaussianBlur(2)), np.float32)
        spots.append(Image.fromarray(np.clip(base + 0.3 * (texture - 128), 0, 255).astype(np.uint8)))
    thumbs = np.stack([thumbnail(i) for i in spots])
    assert near_pairs(thumbs, np.array([0, 1]), HASH_BITS) == []
    assert detail_correlation(thumbs[0], thumbs[0]) == pytest.approx(1, abs=1e-5)


def test_blank_pictures_are_alike():
    flat = np.full((64, 64), 7, np.uint8)
    assert detail_correlation(flat, flat) == 1
    assert near_pairs(np.stack([flat, flat]), np.array([0, 1]), 0) == [(0, 1, 0)]


def test_turned_pairs_are_those_of_the_eight_ways_to_lay_an_image():
    ways = [picture(0).transpose(way) for way in Image.Transpose]
    thumbs = np.stack([thumbnail(i) for i in (picture(0), *(reencoded(way) for way in ways), picture(1))])
    parts = np.arange(len(thumbs))
    pairs = {(i, j) for i, j, _ in turned_pairs(thumbs, parts, LIMIT)}
    assert {(0, j) for j in range(1, 8)} <= pairs and not any(8 in pair for pair in pairs)
    assert turned_pairs(thumbs, parts * 0, LIMIT) == turned_pairs(thumbs[:0], parts[:0], LIMIT) == []
