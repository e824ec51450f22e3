"""An image is made again only from what it was made from (SDEdit's: tests/stages/test_generate.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
from helpers import tiny_sd
from PIL import Image

from partsynth.augmentation.again import regenerate
from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order, Parent
from partsynth.config.generation import Generate
from partsynth.config.models import Diffusion
from partsynth.config.sets import AugmentationSet
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.records.rows import AugmentedRecord
from partsynth.seams import METHODS
from partsynth.store.hashing import sha256_file

SCRATCHES = "data/scratches.png"


class ScratchedRecord(AugmentedRecord):
    method: Literal["scratched"] = "scratched"
    scratches_sha256: str


class ScratchedSet(AugmentationSet):
    method: Literal["scratched"] = "scratched"


class Scratched(Method[ScratchedSet, ScratchedRecord]):
    """Images are made from a file of the project besides their source."""

    name, Parameters, Row = "scratched", ScratchedSet, ScratchedRecord

    def plan(self, order: Order[ScratchedSet], materials: Materials) -> list[ScratchedRecord]:
        sha = sha256_file(materials.root / SCRATCHES)
        rows = [ScratchedRecord(**order.common(s, 0), size=64, scratches_sha256=sha) for s in order.sources]
        return [self.sealed(row, materials) for row in rows]

    def paint(
        self, rows: Sequence[ScratchedRecord], materials: Materials
    ) -> Iterator[tuple[ScratchedRecord, Image.Image]]:
        for row in rows:
            yield row, Image.blend(materials.source(row.source), Image.open(materials.root / SCRATCHES), 0.5)

    def parents(self, row: ScratchedRecord) -> list[Parent]:
        return [*super().parents(row), Parent("scratches", SCRATCHES, row.scratches_sha256)]


def test_every_parent_must_be_what_it_was(tmp_path: Path) -> None:
    METHODS.register("scratched", Scratched())
    try:
        tiny_sd.write_real(tmp_path)
        Image.new("RGB", (64, 64), "white").save(tmp_path / SCRATCHES)
        out = tiny_sd.make_set(tmp_path, "s", Generate(), ScratchedSet())
        row = read_augmented(out / "manifest.csv")[0]
        where = (Diffusion(), tmp_path / "data/real", tmp_path / "models/tokens", tmp_path)
        assert regenerate(row, *where).tobytes() == Image.open(tmp_path / row.path).tobytes()
        with pytest.raises(UserError, match="another fingerprint than its row"):
            regenerate(row.model_copy(update={"seed": 1}), *where)
        Image.new("RGB", (64, 64), "black").save(tmp_path / SCRATCHES)
        with pytest.raises(UserError, match=f"was made with scratches {row.scratches_sha256}, here is "):
            regenerate(row, *where)
        (tmp_path / SCRATCHES).unlink()
        with pytest.raises(UserError, match=r"data/scratches.png is missing"):
            regenerate(row, *where)
    finally:
        METHODS.unregister("scratched")
