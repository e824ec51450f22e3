import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from partsynth.sources.decode import BadImage, bits_of, decode, has_other_colours, peak_of

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
    clear.putpixel((0, 0), (255, 0, 0, 255))
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
    with pytest.raises(BadImage, match="git lfs pull"):
        decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


def test_too_many_pixels_say_so(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImage, match="too many pixels"):
        decode(encoded(Image.fromarray(ramp(40, 40))))


def test_an_alpha_channel_of_zeros_is_no_transparency():
    """Camera SDKs leave it empty."""
    colour = Image.new("RGB", (9, 9), (200, 30, 0))
    clear = colour.convert("RGBA")
    clear.putalpha(0)
    grey = Image.new("LA", (9, 9), (77, 0))
    assert decode(encoded(clear)).getpixel((4, 4)) == (200, 30, 0)
    assert decode(encoded(grey)).getpixel((4, 4)) == (77, 77, 77)


@pytest.mark.parametrize(("peak", "bits"), [(255, 8), (1023, 10), (4080, 12), (16383, 14), (16384, 16), (65535, 16)])
def test_the_bits_that_sixteen_bit_files_use(peak, bits):
    assert bits_of(peak) == bits


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_keep_their_exposure(kind):
    grey = ramp()
    deep = encoded(Image.fromarray(grey.astype(np.uint16) * 16), kind)
    assert peak_of(deep) == 255 * 16 and peak_of(encoded(Image.fromarray(grey))) is None
    out = np.asarray(decode(deep, bits_of(4080)))[..., 0]
    assert np.abs(out.astype(int) - grey).max() <= 1


def test_twelve_bits_in_sixteen_bit_colours_are_refused():
    """Pillow keeps the upper byte of each: nothing would be left but black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def png(values: np.ndarray) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
        start = b"\x89PNG\r\n\x1a\n"
        return start + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    colours = np.stack([ramp(), ramp()[::-1], ramp()], axis=2).astype(np.uint16)
    with pytest.raises(BadImage, match="only the lower bits"):
        decode(png(colours * 16))
    assert np.asarray(decode(png(colours * 257))).max() == 255


def test_what_phones_write():
    pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    colour = Image.new("RGB", (64, 48), (200, 30, 0))
    out = decode(encoded(colour, "HEIF"))
    assert out.size == (64, 48) and np.abs(np.asarray(out)[20, 20].astype(int) - (200, 30, 0)).max() < 8


def test_other_colour_profiles_are_told():
    colour = Image.new("RGB", (16, 16), (200, 30, 0))
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert not has_other_colours(encoded(colour)) and not has_other_colours(b"broken")
    assert not has_other_colours(encoded(colour, icc_profile=usual))
    assert has_other_colours(encoded(colour, icc_profile=lab))
