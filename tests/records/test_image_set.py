from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.errors import UserError
from partsynth.records import image_set
from partsynth.records.image_set import ImageSet, Storage
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest
from partsynth.records.parquet import parquet_faults
from partsynth.store import shards
from partsynth.store.hashing import sha256_bytes
from partsynth.store.png import png_fingerprint, write_png

FOLDER = "data/augmented/id"


def planned(name: str, seed: int) -> SdeditRecord:
    class_name = name.split("-")[0]
    return SdeditRecord(
        path=f"{FOLDER}/{class_name}/{name}.png",
        sha256="",
        class_name=class_name,
        set_name="id",
        source=f"data/real/train/{class_name}/{name}.png",
        source_sha256="a" * 64,
        source_group=name,
        variant=0,
        seed=seed,
        size=16,
        fingerprint=f"mark {seed}",
        prompt="a photo, of a <gear>",
        strength=0.1 * seed,
        guidance=4.0,
        steps=5,
        token_noise=0.0,
        masked=False,
        token_sha256="b" * 64,
        base_sha256="c" * 64,
    )


ROWS = [planned(name, i) for i, name in enumerate(["gear-1", "gear-2", "bolt-1", "bolt-2.5", "nut-1"])]


def place(root: Path, storage: Storage) -> ImageSet:
    return ImageSet(root, root / FOLDER, storage, shard_size=1)


def draw(root: Path, storage: Storage, rows=ROWS, allowed: bool = True) -> int:
    """As stage generate does: what is missing is made. Returns how many were."""
    images = place(root, storage)
    (root / FOLDER / "manifest.csv").unlink(missing_ok=True)
    images.recover(rows)
    missing = [row for row in rows if png_fingerprint(images.file(row)) != row.fingerprint]
    for row in missing:
        assert allowed, f"{row.path} is made again"
        pixels = np.random.default_rng(row.seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_png(images.file(row), pixels, row.fingerprint)
    images.finish(rows, SdeditRecord)
    return len(missing)


def read(root: Path) -> list[SdeditRecord]:
    return read_manifest(root / FOLDER / "manifest.csv", SdeditRecord)


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_both_ways_keep_the_same_images_and_rows(tmp_path) -> None:
    draw(tmp_path / "files", "files")
    draw(tmp_path / "shards", "shards")
    plain, packed = read(tmp_path / "files"), read(tmp_path / "shards")
    assert sorted(files(tmp_path / "shards")) == [
        f"{FOLDER}/{name}" for name in ("manifest.csv", "manifest.parquet", "shard-00000.tar")
    ]
    for one, other in zip(plain, packed, strict=True):
        assert shards.as_file(other.path) == one.path and other == one.model_copy(update={"path": other.path})
        assert sha256_bytes(shards.read(tmp_path / "shards", other.path)) == other.sha256
        both = [read_image(tmp_path / name, row) for name, row in (("files", one), ("shards", other))]
        assert both[0].tobytes() == both[1].tobytes()
        told = json.loads(shards.read(tmp_path / "shards", other.path.replace(".png", ".json")))
        assert SdeditRecord.model_validate(told | {"path": other.path}) == other


def test_a_set_goes_from_one_to_the_other_without_an_image_made_again(tmp_path) -> None:
    assert draw(tmp_path, "files") == len(ROWS)
    first = files(tmp_path)
    draw(tmp_path, "shards", allowed=False)
    packed = files(tmp_path)
    assert len(packed) == 3
    draw(tmp_path, "shards", allowed=False)
    assert files(tmp_path) == packed
    draw(tmp_path, "files", allowed=False)
    assert files(tmp_path) == first


def test_images_that_are_not_wanted_go_and_new_ones_come(tmp_path) -> None:
    draw(tmp_path, "shards", ROWS[:3])
    assert draw(tmp_path, "shards", ROWS[1:]) == 2
    assert [shards.as_file(row.path) for row in read(tmp_path)] == sorted(row.path for row in ROWS[1:])
    draw(tmp_path / "other", "shards", ROWS[1:])
    assert files(tmp_path / "other") == {
        name: data for name, data in files(tmp_path).items() if not name.startswith("other")
    }


@pytest.mark.parametrize("step", ["write_parquet", "write_manifest"])
def test_stopped_while_it_is_packed_it_goes_on(tmp_path, monkeypatch, step) -> None:
    draw(tmp_path / "whole", "shards")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_set, step, stop)
        with pytest.raises(KeyboardInterrupt):
            draw(tmp_path / "stopped", "shards")
    assert not (tmp_path / "stopped" / FOLDER / "manifest.csv").exists()
    draw(tmp_path / "stopped", "shards", allowed=False)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_the_images_of_a_damaged_shard_are_made_again(tmp_path) -> None:
    draw(tmp_path, "shards")
    whole = files(tmp_path)
    shard = tmp_path / FOLDER / "shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    assert draw(tmp_path, "shards") == len(ROWS)
    assert files(tmp_path) == whole


def test_an_altered_image_in_a_shard_is_refused(tmp_path) -> None:
    draw(tmp_path, "shards")
    row, other = read(tmp_path)[:2]
    shard = tmp_path / FOLDER / "shard-00000.tar"
    data = shard.read_bytes()
    at = data.index(b"mark ")
    shard.write_bytes(data[:at] + b"Mark" + data[at + 4 :])
    with pytest.raises(UserError, match="differs from its manifest"):
        read_image(tmp_path, row)
    assert read_image(tmp_path, other)
    with pytest.raises(UserError, match="missing"):
        read_image(tmp_path, row.model_copy(update={"path": row.path.replace("bolt-1", "bolt-9")}))


def test_the_parquet_manifest_has_the_rows_of_the_other(tmp_path) -> None:
    draw(tmp_path, "shards")
    path, rows = tmp_path / FOLDER / "manifest.parquet", read(tmp_path)
    assert parquet_faults(path, rows) == []
    assert "row 2 is not" in parquet_faults(path, [rows[0], rows[1].model_copy(update={"seed": 9}), *rows[2:]])[0]
    assert "has 5 rows" in parquet_faults(path, rows[1:])[0]
    path.write_bytes(path.read_bytes()[:100])
    assert "no Parquet file" in parquet_faults(path, rows)[0]
    path.unlink()
    assert "missing" in parquet_faults(path, rows)[0]


def test_a_set_without_images(tmp_path) -> None:
    draw(tmp_path, "shards", ROWS)
    draw(tmp_path, "shards", [])
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == ["manifest.csv", "manifest.parquet"]
    assert read(tmp_path) == [] == parquet_faults(tmp_path / FOLDER / "manifest.parquet", [])
