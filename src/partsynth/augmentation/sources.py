"""Which training images are edited, read with their masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord
from partsynth.store.files import inside
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    pass


def drawn_sources(rows: Sequence[RealRecord], seed: int, limit: int | None) -> list[RealRecord]:
    """Up to ``limit`` training pictures a class; fewer are always among those of a higher limit."""
    classes: dict[str, list[RealRecord]] = defaultdict(list)
    for row in rows:
        if row.split == "train" and row.role == "target":
            classes[row.class_name].append(row)
    chosen = []
    for name in sorted(classes):
        drawn = sorted(classes[name], key=lambda row: (seed_from("source", seed, row.sha256), row.path))
        chosen += sorted(drawn[:limit], key=lambda row: row.path)
    return chosen


def check_masks(sources: Sequence[RealRecord], set_name: str, root: Path) -> None:
    without = [s.path for s in sources if not s.mask or not inside(root, s.mask).is_file()]
    if without:
        shown = "\n  ".join(without[:10]) + (f"\n  ... and {len(without) - 10} more" if len(without) > 10 else "")
        raise UserError(f"sets.{set_name}.masked is true, but these have no mask:\n  {shown}")


def read_source(sources: Mapping[str, RealRecord], name: str, root: Path) -> Image.Image:
    source = sources[name]
    if source.split != "train" or source.role != "target":
        raise UserError(f"{name} is a {source.split} picture ({source.role}): only training pictures are edited")
    return read_image(root, source)


def read_mask(source: RealRecord, root: Path) -> Image.Image:
    try:
        with Image.open(inside(root, source.mask)) as mask:
            return mask.convert("L")
    except OSError as error:
        raise UserError(f"{source.mask}: not a readable mask: {error}") from None
