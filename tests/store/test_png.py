"""Images with a fingerprint inside."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from partsynth.store.hashing import sha256_file
from partsynth.store.png import is_current, png_bytes, png_fingerprint, write_png

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@RELAXED
@given(mark=st.text(st.characters(codec="latin-1", exclude_categories=("C",)), min_size=1, max_size=64))
def test_a_picture_carries_its_fingerprint(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "a.png"
    sha = write_png(path, np.zeros((4, 5, 3), np.uint8), mark)
    assert png_fingerprint(path) == mark
    assert sha256_file(path) == sha


def test_a_torn_picture_has_no_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    write_png(path, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), "mark")
    path.write_bytes(path.read_bytes()[:-200])
    assert png_fingerprint(path) is None
    assert png_fingerprint(tmp_path / "none.png") is None
    path.write_bytes(b"")
    assert png_fingerprint(path) is None


EDITED = "compositeWithTrainedAlgorithmicMedia"
PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
DIGITAL_SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def test_a_generated_picture_says_so_in_xmp() -> None:
    """In a plain reader of the format, in one of XMP, and in Pillow's own."""
    data = png_bytes(PIXELS, "mark", EDITED)
    assert data == png_bytes(PIXELS, "mark", EDITED)  # no time, no place
    chunks = _chunks(data)
    assert [kind for kind, _ in chunks].index(b"iTXt") < [kind for kind, _ in chunks].index(b"IDAT")
    keyword, rest = dict(chunks)[b"iTXt"].split(b"\0", 1)
    assert keyword == b"XML:com.adobe.xmp" and rest[:4] == b"\0\0\0\0"  # not compressed, no language, no translation
    (described,) = ET.fromstring(rest[4:].decode()).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    wanted = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    assert described.attrib[DIGITAL_SOURCE_TYPE] == wanted
    assert described.attrib["{http://ns.adobe.com/xap/1.0/}CreatorTool"] == "partsynth"
    image = Image.open(io.BytesIO(data))
    assert np.array_equal(np.asarray(image), PIXELS)
    pytest.importorskip("defusedxml", reason="Pillow's reader of XMP needs it")
    assert image.getxmp()["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"] == wanted


def test_a_picture_of_no_model_carries_no_xmp() -> None:
    assert b"iTXt" not in dict(_chunks(png_bytes(PIXELS, "mark")))
    with pytest.raises(ValueError, match="'digitalCapture' is no digital source type of a generated image"):
        png_bytes(PIXELS, "mark", "digitalCapture")  # type: ignore[arg-type]


def test_an_unmarked_picture_is_not_current(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, PIXELS, "mark")
    assert png_fingerprint(path) == "mark" and not is_current(path, "mark", EDITED)  # as before there was the packet
    write_png(path, PIXELS, "mark", EDITED)
    assert png_fingerprint(path) == "mark" and is_current(path, "mark", EDITED)
    assert not is_current(path, "other", EDITED) and not is_current(path, "mark", "trainedAlgorithmicMedia")
    assert not is_current(tmp_path / "none.png", "mark", EDITED)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, each with its checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found.append((kind, body))
        at += 12 + length
    return found


def test_a_header_of_very_many_pixels_is_no_current_image(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    write_png(path, np.zeros((4, 4), np.uint8), "mark", "trainedAlgorithmicMedia")
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + path.read_bytes()[24:29]
    path.write_bytes(path.read_bytes()[:12] + head + zlib.crc32(head).to_bytes(4, "big") + path.read_bytes()[33:])
    assert not is_current(path, "mark", "trainedAlgorithmicMedia")
