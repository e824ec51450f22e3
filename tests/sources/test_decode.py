import io

import numpy as np
import pytest
from PIL import Image

from partsynth.sources.decode import BadImage, decode, decode_mask

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(height: int = 10, width: int = 16) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_exposure(kind):
    grey = ramp()
    deep = Image.fromarray(grey.astype(np.uint16) * 257 // 2)  # half exposure: not to be stretched
    out = np.asarray(decode(encoded(deep, kind)))
    assert out.shape == (10, 16, 3)
    assert np.abs(out[..., 0].astype(int) - grey / 2).max() <= 1


def test_grey_palette_alpha_and_cmyk_become_rgb():
    colour = Image.fromarray(np.stack([ramp(), ramp()[::-1], ramp()], axis=2))
    for image, kind in ((colour.convert("L"), "PNG"), (colour.convert("P"), "PNG"), (colour.convert("CMYK"), "JPEG")):
        assert decode(encoded(image, kind)).mode == "RGB"
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert decode(encoded(clear)).getpixel((4, 4)) == (255, 255, 255)
    palette = Image.new("P", (9, 9), 0)
    assert decode(encoded(palette, transparency=0)).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("deep", [False, True])
def test_exif_rotation_is_applied(orientation, deep):
    grey = ramp()
    image = Image.fromarray(grey.astype(np.uint16) * 257 if deep else grey)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    out = np.asarray(decode(encoded(image, exif=exif)))[..., 0]
    expected = {3: np.rot90(grey, 2), 6: np.rot90(grey, -1), 8: np.rot90(grey)}[orientation]
    np.testing.assert_array_equal(out, expected)


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


def test_bad_files_say_why():
    good = encoded(Image.fromarray(ramp(64, 64)))
    with pytest.raises(BadImage, match="empty file"):
        decode(b"")
    with pytest.raises(BadImage, match="unknown format"):
        decode(b"not a picture at all")
    with pytest.raises(BadImage, match="damaged"):
        decode(good[: len(good) // 2])
    with pytest.raises(BadImage, match="only 3 x 20 pixels"):
        decode(encoded(Image.new("L", (3, 20))))
    with pytest.raises(BadImage, match="floating-point"):
        decode(encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"))
    with pytest.raises(BadImage, match="5 x 5 pixels, its picture 64 x 64"):
        decode_mask(encoded(Image.new("L", (5, 5), 1)), good, (64, 64))
    with pytest.raises(BadImage, match="no part"):
        decode_mask(encoded(Image.new("L", (64, 64))), good, (64, 64))
