from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from partsynth.sources.decode import ORIENTATION, BadImage, decode
from partsynth.sources.masks import decode_mask, is_full, looks_like_mask


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(height: int = 10, width: int = 16) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


PHOTO = encoded(Image.fromarray(ramp(60, 80)))
SIZE = (80, 60)
PART = np.zeros((60, 80), np.uint8)
PART[10:40, 20:50] = 1
THREE = np.zeros((60, 80), np.uint8)
for value, left in enumerate((4, 30, 56), 1):
    THREE[10:40, left : left + 20] = value


def part(mask: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    """Which pixels are part, of a mask of PHOTO."""
    pixels = decode_mask(encoded(mask, kind, **options), PHOTO, SIZE)
    return pixels > pixels.max() / 2


@pytest.mark.parametrize("mask_turns", [False, True])
def test_a_mask_turns_with_its_image(mask_turns):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.zeros((10, 16), np.uint8)
    stored[:4, :3] = 255
    photo = encoded(Image.fromarray(ramp()), exif=exif)
    mask = encoded(Image.fromarray(stored), **({"exif": exif} if mask_turns else {}))
    out = decode_mask(mask, photo, decode(photo).size)
    np.testing.assert_array_equal(out > 0, np.rot90(stored, -1) > 0)


def test_masks_of_any_mode_are_read():
    part = np.zeros((10, 16), np.uint8)
    part[2:5, 3:9] = 1
    photo = encoded(Image.fromarray(ramp()))
    cut_out = np.full((10, 16, 4), 255, np.uint8)
    cut_out[..., 3] = part * 255
    for mask in (part, part * 255, part > 0, cut_out):
        pixels = decode_mask(encoded(Image.fromarray(mask)), photo, (16, 10))
        np.testing.assert_array_equal(pixels > pixels.max() / 2, part > 0)


def test_faults_of_masks():
    good = encoded(Image.fromarray(ramp(64, 64)))
    with pytest.raises(BadImage, match="5 x 5 pixels, its picture 64 x 64"):
        decode_mask(encoded(Image.new("L", (5, 5), 1)), good, (64, 64))
    with pytest.raises(BadImage, match="no part"):
        decode_mask(encoded(Image.new("L", (64, 64))), good, (64, 64))
    with pytest.raises(BadImage, match="is the picture itself"):
        decode_mask(good, good, (64, 64))


@pytest.mark.parametrize("labels", [1, 2, 40, 85])
def test_every_label_is_part(labels):
    expected = THREE > 0
    grey = Image.fromarray((THREE * labels).astype(np.uint8))
    np.testing.assert_array_equal(part(grey), expected)
    np.testing.assert_array_equal(part(Image.fromarray(THREE.astype(np.uint16) * labels)), expected)
    np.testing.assert_array_equal(part(Image.fromarray(THREE.astype(np.uint16) * labels), "TIFF"), expected)
    np.testing.assert_array_equal(part(Image.fromarray(THREE.astype(np.int32) * labels), "TIFF"), expected)
    np.testing.assert_array_equal(part(Image.fromarray(THREE.astype(np.float32) * labels), "TIFF"), expected)


def test_the_lowest_label_is_the_background():
    np.testing.assert_array_equal(part(Image.fromarray(PART + 1)), PART > 0)


def test_colours_and_palettes_mark_parts():
    colours = np.array([(0, 0, 0), (0, 0, 200), (0, 128, 0), (224, 224, 192)], np.uint8)[THREE]
    np.testing.assert_array_equal(part(Image.fromarray(colours)), THREE > 0)
    palette = Image.fromarray(THREE)
    palette = palette.convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    np.testing.assert_array_equal(part(palette), THREE > 0)


def test_a_cut_out_is_part_where_it_is_opaque():
    dark = np.full((60, 80, 4), 12, np.uint8)  # a dark part in its own colours
    dark[..., 3] = PART * 255
    np.testing.assert_array_equal(part(Image.fromarray(dark)), PART > 0)


def test_soft_edges_are_halved():
    soft = Image.fromarray(PART * 255).filter(ImageFilter.GaussianBlur(4))
    expected = np.asarray(soft) > np.asarray(soft).max() / 2
    np.testing.assert_array_equal(part(soft), expected)
    deep = Image.fromarray(np.asarray(soft).astype(np.uint16) * 257)
    assert (part(deep) != expected).mean() < 0.01


def test_noise_of_jpeg_is_no_label():
    noisy = part(Image.fromarray(PART * 255), "JPEG", quality=30)
    assert (noisy != (PART > 0)).mean() < 0.01


def test_inverted_and_nearly_empty_masks_are_named():
    with pytest.raises(BadImage, match="inverted"):
        part(ImageOps.invert(Image.fromarray(PART * 255)))
    speck = np.zeros((60, 80), np.uint8)
    speck[5, 5:8] = 255
    with pytest.raises(BadImage, match="nearly empty: 3 of 4800"):
        part(Image.fromarray(speck))
    with pytest.raises(BadImage, match="no part"):
        part(Image.fromarray(speck * 0))
    with pytest.raises(BadImage, match="no numbers"):
        part(Image.fromarray(np.full((60, 80), np.nan, np.float32)), "TIFF")


def test_a_full_mask_is_noted():
    assert is_full(decode_mask(encoded(Image.new("L", SIZE, 255)), PHOTO, SIZE))
    assert not is_full(decode_mask(encoded(Image.fromarray(PART * 255)), PHOTO, SIZE))


@pytest.mark.parametrize(("orientation", "size"), [(6, (60, 60)), (3, (80, 60)), (2, (80, 60))])
def test_a_mask_that_may_lie_either_way_is_refused(orientation, size):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo = encoded(Image.new("L", size, 9), exif=exif)
    corner = Image.new("L", size)
    corner.paste(255, (0, 0, 20, 10))
    with pytest.raises(BadImage, match="turned by EXIF"):
        decode_mask(encoded(corner), photo, size)
    turned = decode_mask(encoded(corner, exif=exif), photo, size)
    np.testing.assert_array_equal(
        turned > 0, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(corner, exif=exif))))) > 0
    )
    middle = Image.new("L", size)
    middle.paste(255, (size[0] // 2 - 10, size[1] // 2 - 10, size[0] // 2 + 10, size[1] // 2 + 10))
    assert (decode_mask(encoded(middle), photo, size) > 0).sum() == 400  # the same either way


def test_masks_are_told_from_photographs_by_content(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "gas_mask.jpg")
    Image.fromarray(PART * 255).save(tmp_path / "1_mask.jpg")
    Image.fromarray(THREE).save(tmp_path / "2_mask.png")
    Image.fromarray(THREE.astype(np.uint16)).save(tmp_path / "3_mask.png")
    (tmp_path / "torn_mask.png").write_bytes(b"x")
    found = [path.name for path in sorted(tmp_path.iterdir()) if looks_like_mask(path)]
    assert found == ["1_mask.jpg", "2_mask.png", "3_mask.png"]
