from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import framed
from PIL import Image

from partsynth.config.data import Ingest
from partsynth.sources.base import Photo
from partsynth.sources.frame import Framed, frame_all
from partsynth.sources.scratch import Scratch
from partsynth.store.hashing import sha256_file
from partsynth.store.png import png_fingerprint


@pytest.fixture
def raw(tmp_path) -> Path:
    """``a/1.png``, 80 x 60 pixels, whose part fills 30 x 20 of them, with its mask; ``a/2.png`` like it without one."""
    (tmp_path / "a").mkdir()
    pixels = np.full((60, 80, 3), (10, 10, 200), np.uint8)
    pixels[20:40, 30:60] = (200, 100, 0)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 200
    Image.fromarray(pixels).save(tmp_path / "a/1.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "a/2.png")
    Image.fromarray(mask).save(tmp_path / "a/1_mask.png")
    return tmp_path


MASKED = Photo(name="a/1.png", class_name="a", group="a/1.png", mask="a/1_mask.png")
PLAIN = Photo(name="a/2.png", class_name="a", group="a/2.png")


def frame(raw: Path, *photos: Photo, **params) -> tuple[list[tuple[Framed, np.ndarray, np.ndarray | None]], list[str]]:
    told = Ingest(**({"masks": "optional", "size": 30, "dilation": 0.0} | params))
    with Scratch(raw) as scratch:
        found, faults = frame_all(photos, raw, told, scratch)
        images = [np.asarray(Image.open(io.BytesIO(scratch.get(f.image)))) for f in found]
        masks = [None if f.mask is None else np.asarray(Image.open(io.BytesIO(scratch.get(f.mask)))) for f in found]
    return list(zip(found, images, masks, strict=True)), [f"{fault.name}: {fault.reason}" for fault in faults]


def test_the_mask_frames_the_part(raw):
    [(entry, image, mask)], faults = frame(raw, MASKED)
    assert entry.box == (30, 15, 60, 45) and not faults  # 30 x 20 widened to 30 x 30 about its centre
    assert (image[5:25] == (200, 100, 0)).all() and (image[:5, :, 2] == 200).all()
    assert (mask[5:25] == 255).all() and (mask[:5] == 0).all() and (mask[25:] == 0).all()
    assert entry.source_sha256 == sha256_file(raw / "a/1.png")


@pytest.mark.parametrize(("unmasked", "box"), [("whole", (0, -10, 80, 70)), ("centre", (10, 0, 70, 60))])
def test_without_a_mask_the_frame_is_whole_or_its_middle(raw, unmasked, box):
    [(entry, image, mask)], _ = frame(raw, PLAIN, unmasked=unmasked)
    assert entry.box == box and image.shape == (30, 30, 3) and mask is None
    [(ignored, _, mask)], _ = frame(raw, MASKED, unmasked=unmasked, masks="none")
    assert ignored.box == box and mask is None


def test_what_shows_the_same_has_the_same_pixels(raw):
    """Another encoding of one photograph; the frame is part of the fingerprint inside the file."""
    Image.open(raw / "a/1.png").save(raw / "a/3.png", compress_level=0)
    again = Photo(name="a/3.png", class_name="a", group="a/3.png")
    [(one, _, _), (two, _, _), (other, _, _)], _ = frame(raw, MASKED, again, PLAIN)
    assert one.pixels_sha256 == two.pixels_sha256 != other.pixels_sha256
    assert one.source_sha256 != two.source_sha256


def test_the_fingerprint_is_of_file_mask_frame_and_size(raw):
    def mark(photo: Photo, **params) -> str | None:
        with Scratch(raw) as scratch:
            [entry], _ = frame_all([photo], raw, Ingest(**({"masks": "optional", "size": 30} | params)), scratch)
            (raw / "out.png").write_bytes(scratch.get(entry.image))
        return png_fingerprint(raw / "out.png")

    marks = [mark(MASKED), mark(MASKED, size=31), mark(MASKED, dilation=0.2), mark(MASKED, masks="none"), mark(PLAIN)]
    assert None not in marks and len(set(marks)) == 5 and mark(MASKED) == marks[0]


def test_all_that_is_wrong_is_told_and_the_rest_is_framed(raw):
    (raw / "a/torn.png").write_bytes((raw / "a/1.png").read_bytes()[:60])
    (raw / "a/small_mask.png").write_bytes(b"")
    wrong = [
        Photo(name="a/torn.png", class_name="a", group="g"),
        Photo(name="a/gone.png", class_name="a", group="g"),
        Photo(name="a/1.png", class_name="a", group="g", sha256="0" * 64),
        Photo(name="a/2.png", class_name="a", group="g", mask="a/small_mask.png"),
    ]
    found, faults = frame(raw, *wrong, MASKED)
    assert [entry.photo for entry, _, _ in found] == [MASKED]
    assert [f.split(": ")[0] for f in faults] == [p.name for p in wrong]
    for told, expected in zip(faults, ("damaged", "cannot be read: No such file", "sha256", "empty file"), strict=True):
        assert expected in told
    assert frame(raw, PLAIN, masks="required")[1] == ["a/2.png: no mask (ingest.masks: optional or none goes without)"]


def test_a_split_must_be_drawn_before_it_is_asked_for():
    with pytest.raises(ValueError, match=r"a/1\.png is in no split yet"):
        framed("a/1.png").split  # noqa: B018 - the property raises
    assert framed("a/1.png").in_split("val").split == "val"


def test_all_sixteen_bit_images_of_a_source_have_one_depth(raw):
    """A 12-bit camera's darker image is not brightened for itself."""
    grey = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name, values in (("bright", grey), ("dark", grey // 8)):
        Image.fromarray(values).save(raw / f"a/{name}.png")
    deep = [Photo(name=f"a/{name}.png", class_name="a", group=name) for name in ("bright", "dark")]
    found, faults = frame(raw, deep[0], PLAIN, deep[1])
    assert not faults and [entry.photo.name for entry, _, _ in found] == ["a/bright.png", "a/2.png", "a/dark.png"]
    bright, dark = found[0][1], found[2][1]
    assert bright.max() > 250 and 25 < dark.max() < 35
    assert [entry.notes for entry, _, _ in found] == [
        ("16-bit files with values up to 4095, read as 12 bits",),
        (),
        ("16-bit files with values up to 4095, read as 12 bits",),
    ]


def test_a_strip_is_no_square(raw):
    Image.new("RGB", (8, 60_000)).save(raw / "a/seam.png")
    seam = Photo(name="a/seam.png", class_name="a", group="seam")
    found, faults = frame(raw, seam)
    assert not found and "8 x 60000 pixels" in faults[0] and "ingest.unmasked: centre" in faults[0]
    [(entry, _, _)], _ = frame(raw, seam, unmasked="centre")
    assert entry.box == (0, 29996, 8, 30004)


def test_an_image_of_one_colour_is_noted(raw):
    Image.new("RGB", (40, 40), "black").save(raw / "a/cap.png")
    [(entry, _, _)], faults = frame(raw, Photo(name="a/cap.png", class_name="a", group="cap"))
    assert not faults and entry.notes == ("of one colour: nothing is to be seen in the frame",)


def test_a_mask_of_the_whole_image_is_noted(raw):
    Image.new("L", (80, 60), 255).save(raw / "a/2_mask.png")
    full = Photo(name="a/2.png", class_name="a", group="g", mask="a/2_mask.png")
    [(entry, _, _)], faults = frame(raw, full)
    assert not faults and entry.notes == ("masks that cover the whole image and frame nothing",)
