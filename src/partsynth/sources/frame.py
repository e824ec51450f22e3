"""Photographs read, checked, and framed alike."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from partsynth.config.data import Ingest
from partsynth.core.images.duplicates import thumbnail
from partsynth.core.images.framing import (
    Box,
    crop_resize,
    dilation_pixels,
    middle_square,
    roi_box,
    whole_square,
    within,
)
from partsynth.records.rows import Split
from partsynth.sources.base import Fault, Photo
from partsynth.sources.decode import BadImage, bits_of, decode, has_other_colours, peak_of, size_of
from partsynth.sources.masks import decode_mask, is_full
from partsynth.sources.scratch import Scratch, Span
from partsynth.store.hashing import fingerprint, sha256_bytes
from partsynth.store.png import png_bytes
from partsynth.store.process import cores

ELONGATED = 20  # times as long as wide: as a square nearly all of it would be repeated edges
LARGE = 32_000_000  # pixels; such images are opened one at a time
_one_large = threading.Lock()


@dataclass(frozen=True)
class Framed:
    """A photograph that was read and framed; its PNGs lie in the scratch file."""

    photo: Photo
    source_sha256: str  # of the file
    pixels_sha256: str  # of what it shows
    thumbnail: np.ndarray  # (64, 64) uint8, for the search for duplicates
    box: Box
    image: Span
    mask: Span | None
    notes: tuple[str, ...] = ()  # what the summary counts
    peak: int | None = None  # brightest value of a 16-bit grey image

    @property
    def split(self) -> Split:
        """Where the photograph belongs; asked for once splits are drawn."""
        if self.photo.split is None:
            raise ValueError(f"{self.photo.name} is in no split yet")
        return self.photo.split

    def in_split(self, split: Split) -> Framed:
        return replace(self, photo=replace(self.photo, split=split))


def frame_all(photos: Sequence[Photo], raw: Path, params: Ingest, scratch: Scratch) -> tuple[list[Framed], list[Fault]]:
    """The photographs below ``raw``, each opened once, and what is wrong with the others."""

    framed, faults = _work(photos, raw, params, scratch, 16)
    peaks = [f.peak for f in framed if f.peak is not None]
    if peaks and (bits := bits_of(max(peaks))) < 16:
        # what one camera writes has one depth: a dark image of several is no reason to brighten it alone
        deep = {f.photo.name for f in framed if f.peak is not None}
        again, others = _work([p for p in photos if p.name in deep], raw, params, scratch, bits)
        note = f"16-bit files with values up to {max(peaks)}, read as {bits} bits"
        redone = {f.photo.name: replace(f, notes=(*f.notes, note)) for f in again}
        framed = [redone.get(f.photo.name, f) for f in framed if f.photo.name not in deep or f.photo.name in redone]
        faults += others
    return framed, faults


def _work(
    photos: Sequence[Photo], raw: Path, params: Ingest, scratch: Scratch, bits: int
) -> tuple[list[Framed], list[Fault]]:
    def work(photo: Photo) -> tuple[Framed, bytes, bytes] | Fault:
        try:
            return _frame(photo, raw, params, bits)
        except BadImage as error:
            return Fault(photo.name, str(error))
        except MemoryError:
            return Fault(photo.name, "too many pixels for this machine's memory: make it smaller, or cut it up")
        except OSError as error:
            return Fault(photo.name, f"cannot be read: {error.strerror or error}")

    framed, faults = [], []
    with ThreadPoolExecutor(cores()) as pool:
        for result in track(pool.map(work, photos), "reading photographs", len(photos), transient=True):
            if isinstance(result, Fault):
                faults.append(result)
            else:
                entry, image, mask = result
                framed.append(replace(entry, image=scratch.put(image), mask=scratch.put(mask) if mask else None))
    return framed, faults


def _frame(photo: Photo, raw: Path, params: Ingest, bits: int) -> tuple[Framed, bytes, bytes]:
    """The photograph, the PNG of its frame, and that of its mask (empty where there is none)."""
    data = photo.path(raw).read_bytes()
    sha256 = sha256_bytes(data)
    if photo.sha256 and photo.sha256 != sha256:
        raise BadImage("differs from the sha256 in its manifest")
    width, height = size_of(data)
    with _one_large if width * height > LARGE else contextlib.nullcontext():
        return _framed(photo, raw, params, bits, data, sha256)


def _framed(
    photo: Photo, raw: Path, params: Ingest, bits: int, data: bytes, sha256: str
) -> tuple[Framed, bytes, bytes]:
    peak = peak_of(data)
    image = decode(data, bits)
    mask, mask_data = None, b""
    notes = ["with a colour profile other than sRGB, which is not converted"] if has_other_colours(data) else []
    if params.masks != "none" and photo.mask:
        mask_data = photo.mask_path(raw).read_bytes()
        try:
            mask = decode_mask(mask_data, data, image.size)
        except BadImage as error:
            raise BadImage(f"mask {photo.mask}: {error}") from None
        if is_full(mask):
            notes.append("masks that cover the whole image and frame nothing")
    elif params.masks == "required" and (photo.base is None or photo.role != "far_ood"):
        raise BadImage("no mask (ingest.masks: optional or none goes without)")
    box = _box(mask, image.size, params)
    seen = within(box, image.size)
    small = thumbnail(image if seen == (0, 0, *image.size) else image.crop(seen))
    if small.min() == small.max():
        notes.append("of one colour: nothing is to be seen in the frame")
    mark = fingerprint([sha256, sha256_bytes(mask_data), box, params.size, *([bits] if bits < 16 else [])])
    framed_mask = b""
    if mask is not None:
        binary = Image.fromarray(np.where(mask > mask.max() / 2, 255, 0).astype(np.uint8))
        framed_mask = png_bytes(crop_resize(binary, box, params.size, Image.Resampling.NEAREST), mark)
    entry = Framed(
        photo=photo,
        source_sha256=sha256,
        pixels_sha256=sha256_bytes(repr(image.size).encode() + image.tobytes()),
        thumbnail=small,
        box=box,
        image=(0, 0),
        mask=None,
        notes=tuple(notes),
        peak=peak,
    )
    return entry, png_bytes(crop_resize(image, box, params.size, Image.Resampling.BICUBIC), mark), framed_mask


def _box(mask: np.ndarray | None, size: tuple[int, int], params: Ingest) -> Box:
    """The frame in a photograph of ``size`` (width, height)."""
    if mask is not None:
        return roi_box(mask, dilation_pixels(params.dilation, size))
    if params.unmasked == "whole":
        if max(size) > ELONGATED * min(size):
            raise BadImage(
                f"{size[0]} x {size[1]} pixels: as a square nearly all of it would be repeated edges "
                "(ingest.unmasked: centre takes its middle; or cut it into pieces)"
            )
        return whole_square(size)
    return middle_square(size)
