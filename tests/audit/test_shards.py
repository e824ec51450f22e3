"""Audits of a project one of whose sets is kept as tar shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.audits import faults, rewrite

from partsynth.audit.image import trace_image
from partsynth.audit.manifests import check_manifests
from partsynth.audit.takedown_search import Search, Traces, workspace_files
from partsynth.audit.versions import Version
from partsynth.audit.workspace import Workspace
from partsynth.lineage.digests import md5_bytes
from partsynth.lineage.graph import read_lock
from partsynth.records.augmented import read_augmented
from partsynth.records.image_set import ImageSet
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store import shards
from partsynth.store.hashing import sha256_bytes

SET = "data/augmented/near_ood"
SHARD = f"{SET}/shard-00000.tar"


@pytest.fixture
def packed(copied: Path) -> Path:
    """The small project with set near_ood in shards, and its tables as the stages would write them then."""
    rows = read_augmented(copied / SET / "manifest.csv")
    images = ImageSet(copied, copied / SET, "shards", shard_size=1)
    images.recover(rows)
    images.finish(rows, type(rows[0]))
    moved = {shards.as_file(row.path): row.path for row in packed_rows(copied)}
    for table in (copied / "data/quality/near_ood.csv", *(copied / "data/selected").glob("*.csv")):
        rewrite(table, lambda found: [row.update(path=moved.get(row["path"], row["path"])) for row in found])
    return copied


def packed_rows(root: Path) -> list[AugmentedRecord]:
    return read_augmented(root / SET / "manifest.csv")


def unsound(root: Path) -> dict[str, str]:
    return {fault.path: fault.message for fault in check_manifests(Workspace(root), read_lock(root))[1]}


def test_images_in_shards_are_checked_as_files_are(packed) -> None:
    assert unsound(packed) == {}
    rows = packed_rows(packed)
    shard = packed / SHARD
    whole = shard.read_bytes()
    at = whole.index(shards.read(packed, rows[0].path))
    shard.write_bytes(whole[: at + 30] + bytes([whole[at + 30] ^ 1]) + whole[at + 31 :])
    assert list(unsound(packed)) == [rows[0].path] and "sha256" in unsound(packed)[rows[0].path]
    shard.write_bytes(whole[: at + 30])
    assert all("torn" in message for message in unsound(packed).values())
    assert set(unsound(packed)) >= {row.path for row in rows} | {SET}
    shard.write_bytes(whole)
    with tarfile.open(packed / SET / "shard-00001.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("gear_a/more.png"), io.BytesIO())
    assert unsound(packed) == {
        f"{SET}/shard-00001.tar/gear_a/more.png": f"an image without a row in {SET}/manifest.csv"
    }
    (packed / SET / "shard-00001.tar").unlink()
    (packed / SET / "manifest.parquet").unlink()
    assert list(unsound(packed)) == [f"{SET}/manifest.parquet"]


def test_an_image_in_a_shard_is_traced_by_its_path_and_by_its_hash(packed) -> None:
    row = packed_rows(packed)[0]
    for what in (row.path, row.sha256):
        result = trace_image(packed, what)
        assert faults(result) == {} and result.data["picture"]["path"] == row.path
        assert result.data["verdict"]["sha256"] == row.sha256
        assert {run["name"] for run in result.data["runs"]} == {"real_id_negatives-seed0"}  # by what it saw as a file


class Kept:
    """Objects by md5, as DVC's cache and as a remote."""

    name = "cache"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, data: bytes, ending: str = "") -> str:
        md5 = md5_bytes(data) + ending
        self.path(md5).write_bytes(data)
        return md5

    def add_folder(self, root: Path) -> str:
        rows = [{"md5": self.add(p.read_bytes()), "relpath": p.relative_to(root).as_posix()} for p in root.rglob("*.*")]
        return self.add(json.dumps(rows).encode(), ".dir")

    def path(self, md5: str) -> Path:
        return self.folder / md5

    def read(self, md5: str) -> bytes:
        return self.path(md5).read_bytes()

    def listing(self, md5: str) -> dict[str, str]:
        return {row["relpath"]: row["md5"] for row in json.loads(self.read(md5))}

    def listings(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.dir"))

    def holds(self, md5s: Iterable[str]) -> set[str]:
        return {md5 for md5 in md5s if self.path(md5).is_file()}

    def remove(self, md5: str) -> None:
        self.path(md5).unlink()


def test_a_version_that_a_run_saw_reads_images_out_of_the_shards_object(packed, tmp_path) -> None:
    kept = Kept(tmp_path / "objects")
    version = Version(packed, kept, {SET: kept.add_folder(packed / SET)})  # type: ignore[arg-type]
    for row in packed_rows(packed):
        data = version.read(row.path)
        assert data is not None and sha256_bytes(data) == row.sha256
    assert version.read(f"{SHARD}/gear_a/none.png") is None and version.read(f"{SET}/shard-00009.tar/a.png") is None
    members = version.members(SHARD)
    assert [f"{SHARD}/{name}" for name in members if name.endswith(".png")] == [r.path for r in packed_rows(packed)]
    assert version.members(f"{SET}/shard-00009.tar") == []
    assert members == Version(packed).members(SHARD)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_takedown_takes_the_shards_that_hold_an_edit_whole(packed, tmp_path, damaged) -> None:
    parent = next(r for r in read_manifest(packed / "data/real/manifest.csv", RealRecord) if r.split == "train")
    kept = Kept(tmp_path / "objects")
    for folder in ("data/real", SET):
        kept.add_folder(packed / folder)
    traces = Traces(parent.source_sha256)
    pieces, shared = Search(packed, [kept], traces).objects()
    assert shared == {}
    assert {(p.kind, p.path) for p in pieces if p.kind in ("shard", "synthetic")} == {("shard", "shard-00000.tar")}
    if damaged:
        (packed / SHARD).write_bytes((packed / SHARD).read_bytes()[:700])
    here = {(piece.kind, piece.path) for piece, _ in workspace_files(packed, traces, [])}
    assert ("shard", SHARD) in here and ("framed", parent.path) in here
    other = Traces("0" * 64)
    assert Search(packed, [kept], other).objects()[0] == []
    assert not [piece for piece, _ in workspace_files(packed, other, []) if piece.kind == "shard"]
