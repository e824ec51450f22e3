"""Photographs read, checked, and framed alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from partsynth.config.data import Ingest
from partsynth.core.images.duplicates import thumbnail
from partsynth.core.images.framing import Box, crop_resize, dilation_pixels, middle_square, roi_box, within
from partsynth.records.rows import Split
from partsynth.sources.base import Fault, Photo
from partsynth.sources.decode import BadImage, decode, decode_mask
from partsynth.sources.scratch import Scratch, Span
from partsynth.store.hashing import fingerprint, sha256_bytes
from partsynth.store.png import png_bytes


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

    def work(photo: Photo) -> tuple[Framed, bytes, bytes] | Fault:
        try:
            return _frame(photo, raw, params)
        except BadImage as error:
            return Fault(photo.name, str(error))
        except OSError as error:
            return Fault(photo.name, f"cannot be read: {error.strerror or error}")

    framed, faults = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in track(pool.map(work, photos), "reading photographs", len(photos), transient=True):
            if isinstance(result, Fault):
                faults.append(result)
            else:
                entry, image, mask = result
                framed.append(replace(entry, image=scratch.put(image), mask=scratch.put(mask) if mask else None))
    return framed, faults


def _frame(photo: Photo, raw: Path, params: Ingest) -> tuple[Framed, bytes, bytes]:
    """The photograph, the PNG of its frame, and that of its mask (empty where there is none)."""
    data = (raw / photo.name).read_bytes()
    sha256 = sha256_bytes(data)
    if photo.sha256 and photo.sha256 != sha256:
        raise BadImage("differs from the sha256 in its manifest")
    image = decode(data)
    mask, mask_data = None, b""
    if params.masks != "none" and photo.mask:
        mask_data = (raw / photo.mask).read_bytes()
        try:
            mask = decode_mask(mask_data, data, image.size)
        except BadImage as error:
            raise BadImage(f"mask {photo.mask}: {error}") from None
    elif params.masks == "required":
        raise BadImage("no mask (ingest.masks: optional or none goes without)")
    box = _box(mask, image.size, params)
    mark = fingerprint([sha256, sha256_bytes(mask_data), box, params.size])
    framed_mask = b""
    if mask is not None:
        binary = Image.fromarray(np.where(mask > mask.max() / 2, 255, 0).astype(np.uint8))
        framed_mask = png_bytes(crop_resize(binary, box, params.size, Image.Resampling.NEAREST), mark)
    entry = Framed(
        photo=photo,
        source_sha256=sha256,
        pixels_sha256=sha256_bytes(repr(image.size).encode() + image.tobytes()),
        thumbnail=thumbnail(image.crop(within(box, image.size))),
        box=box,
        image=(0, 0),
        mask=None,
    )
    return entry, png_bytes(crop_resize(image, box, params.size, Image.Resampling.BICUBIC), mark), framed_mask


def _box(mask: np.ndarray | None, size: tuple[int, int], params: Ingest) -> Box:
    """The frame in a photograph of ``size`` (width, height)."""
    if mask is not None:
        return roi_box(mask, dilation_pixels(params.dilation, size))
    if params.unmasked == "whole":
        return roi_box(np.ones(size[::-1], np.uint8), 0)
    return middle_square(size)
