"""Framed photographs for tests of what happens to them after reading."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from partsynth.sources.base import Photo
from partsynth.sources.frame import Framed


def framed(name: str, group: str | None = None, thumbnail: np.ndarray | None = None, **photo: Any) -> Framed:
    """Of the photograph ``<class>/<file>``, a group of its own unless one is given; its thumbnail is its own too."""
    own = np.random.default_rng(list(name.encode())).integers(0, 256, (64, 64), np.uint8)
    thumbnail = own if thumbnail is None else thumbnail
    told = Photo(name=name, class_name=name.split("/")[0], group=group or name)
    return Framed(
        photo=replace(told, **photo),
        source_sha256=f"file {name}",
        pixels_sha256=f"pixels {hash(thumbnail.tobytes())}",
        thumbnail=thumbnail,
        box=(0, 0, 8, 8),
        image=(0, 0),
        mask=None,
    )
