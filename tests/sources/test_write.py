from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.photos import framed

from partsynth.errors import UserError
from partsynth.records.rows import RealRecord
from partsynth.sources.scratch import Scratch
from partsynth.sources.write import write
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout
from partsynth.store.png import png_bytes


def go(root: Path, *entries, masks: bool = False) -> list[RealRecord]:
    with Scratch(root) as scratch:
        put = [replace(f, image=scratch.put(png_bytes(f.thumbnail, "mark"))) for f in entries]
        put = [replace(f, mask=scratch.put(png_bytes(f.thumbnail // 128 * 255, "mark"))) if masks else f for f in put]
        return write(put, scratch, root / "data/real", root / "data/ood", Layout(root))


TRAIN, NEAR = framed("a/deep/1.png", split="train"), framed("b/2.png", split="test", role="near_ood")


def test_images_masks_and_rows(tmp_path):
    rows = go(tmp_path, TRAIN, NEAR, masks=True)
    assert [(r.path, r.mask) for r in rows] == [
        ("data/real/train/a/deep-1.png", "data/real/masks/train/a/deep-1.png"),
        ("data/ood/near/test/b/2.png", ""),  # nothing asks for the masks of OOD images
    ]
    assert [(r.source, r.role, r.split, r.box) for r in rows] == [
        ("a/deep/1.png", "target", "train", "0,0,8,8"),
        ("b/2.png", "near_ood", "test", "0,0,8,8"),
    ]
    assert all(sha256_file(tmp_path / r.path) == r.sha256 for r in rows)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {r.path for r in rows} | {rows[0].mask}


def test_what_is_there_already_is_left_alone_and_the_rest_goes(tmp_path):
    go(tmp_path, TRAIN, NEAR)
    (tmp_path / "data/real/manifest.csv").write_text("")
    kept = tmp_path / "data/real/train/a/deep-1.png"
    before = os.stat(kept).st_mtime_ns
    go(tmp_path, TRAIN)
    assert os.stat(kept).st_mtime_ns == before
    assert [p for p in (tmp_path / "data").rglob("*") if p.is_file()] == [kept]
    assert (tmp_path / "data/ood").is_dir()


def test_names_that_meet_are_told_apart(tmp_path):
    long = "a/" + "x" * 120 + ".png"
    rows = go(tmp_path, *(framed(n, split="train") for n in ("a/1 x.png", "a/1_x.bmp", "a/1_X.png", "b/1_x.png", long)))
    names = [Path(r.path).stem for r in rows]
    assert all(re.fullmatch(r"1_[xX]-[0-9a-f]{8}", n) for n in names[:3]) and len(set(names[:3])) == 3
    assert names[3] == "1_x" and re.fullmatch(r"x{80}-[0-9a-f]{8}", names[4])


def test_long_names_are_cut_by_bytes(tmp_path):
    long = "二手齿轮箱输出轴磨损照片" * 7
    names = [f"a/{long[:83]}.png", f"a/{long[:60]}/{long[:60]}/001.png", f"a/{long[:60]}/{long[:60]}/002.png"]
    stems = [Path(r.path).stem for r in go(tmp_path, *(framed(name, split="train") for name in names))]
    assert len(set(stems)) == 3 and all(len(stem.encode()) < 100 for stem in stems)


@pytest.mark.parametrize("folder", ["data/real/train/a", "data/ood"])
def test_what_ingest_did_not_make_is_never_deleted(tmp_path, folder):
    own = tmp_path / folder / "my_only_copy.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"a photograph")
    with pytest.raises(UserError, match=r"my_only_copy.jpg.*did not make: move them"):
        go(tmp_path, TRAIN, NEAR)
    assert [p for p in (tmp_path / "data").rglob("*") if p.is_file()] == [own]
