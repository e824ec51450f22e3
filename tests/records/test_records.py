"""Records and manifests: what is written is read back; what is damaged is named; nothing is half-written."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partsynth.config.training import Train
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord, SelectedRecord, VerdictRecord
from partsynth.store import files
from partsynth.store.files import read_json, write_json, write_text_atomic
from partsynth.store.hashing import fingerprint, seed_from, sha256_file, sha256_tree
from partsynth.store.png import png_fingerprint, write_png

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)
names = words.filter(lambda w: w and not w.startswith("/") and ".." not in w.split("/"))


def real(path: str = "data/real/train/a/1.png", **changes: object) -> RealRecord:
    fields = {"sha256": "0" * 64, "class_name": "a", "split": "train", "group": "g", "source": "a/1.jpg"}
    return RealRecord.model_validate({"path": path, "source_sha256": "1" * 64, **fields, **changes})


# --- identity ---------------------------------------------------------------------------------------------------------


def test_fingerprint_knows_no_order_of_keys_and_no_type_of_carrier() -> None:
    assert fingerprint({"a": 1, "b": [Path("x/y")]}) == fingerprint({"b": ["x/y"], "a": np.int64(1)})
    assert fingerprint(Train()) == fingerprint(Train().model_dump(mode="json"))
    assert fingerprint(Train()) != fingerprint(Train(temperature=0.2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_has_no_canonical_form_has_no_fingerprint(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint(value)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_from("id", "a/1.png", 0) == 7935263347112768218
    assert seed_from("a", "bc") != seed_from("ab", "c")


@given(st.lists(st.one_of(words, st.integers(), st.none()), max_size=4))
def test_a_seed_fits_torch(identity: list[object]) -> None:
    assert 0 <= seed_from(*identity) < 2**63


def test_tree_hash_sees_names_and_contents_and_no_caches(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("1")
    before = sha256_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/x.pyc").write_text("1")
    assert sha256_tree(tmp_path) == before
    (tmp_path / "a/x.txt").rename(tmp_path / "a/y.txt")
    assert sha256_tree(tmp_path) != before


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "new/a.txt", "x")
    assert stat.S_IMODE((tmp_path / "new/a.txt").stat().st_mode) == 0o644


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


def test_prune_takes_strangers_and_empty_folders_only(tmp_path: Path) -> None:
    for name in ("keep/a.png", "keep/b.png", "gone/c.png"):
        write_text_atomic(tmp_path / name, "x")
    gone = files.prune(tmp_path, [tmp_path / "keep/a.png"])
    assert [p.name for p in gone] == ["c.png", "b.png"]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["keep", "keep/a.png"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\b", ""])
def test_no_name_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        files.inside(tmp_path, name)


def test_no_link_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leaves the folder"):
        files.inside(tmp_path / "root", "out/x.png")


# --- manifests --------------------------------------------------------------------------------------------------------


@RELAXED
@given(
    st.lists(
        st.builds(real, path=names, class_name=words, group=words, source=words), max_size=6, unique_by=lambda r: r.path
    )
)
def test_manifests_are_read_as_written(tmp_path: Path, rows: list[RealRecord]) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, rows, RealRecord)
    assert read_manifest(path, RealRecord) == sorted(rows, key=lambda r: r.path)


@RELAXED
@given(drift=st.floats(), percentile=st.floats(0, 1))
def test_figures_keep_every_bit(tmp_path: Path, drift: float, percentile: float) -> None:
    row = VerdictRecord(
        path="a.png",
        sha256="0",
        class_name="a",
        set_name="id",
        drift=drift,
        percentile=percentile,
        calibration_n=3,
        nearest_class="a",
        class_margin=0.1,
        sharpness=1,
        brightness=0.5,
        contrast=0.2,
        copy_similarity=0.3,
        verdict="accept",
        reasons="",
    )
    write_manifest(tmp_path / "v.csv", [row], VerdictRecord)
    (read,) = read_manifest(tmp_path / "v.csv", VerdictRecord)
    assert read.percentile == percentile
    assert read.drift == drift or (math.isnan(drift) and math.isnan(read.drift))


def test_order_of_rows_does_not_matter_and_an_empty_manifest_is_whole(tmp_path: Path) -> None:
    rows = [real("b.png"), real("a.png")]
    write_manifest(tmp_path / "1.csv", rows, RealRecord)
    write_manifest(tmp_path / "2.csv", rows[::-1], RealRecord)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    write_manifest(tmp_path / "3.csv", [], RealRecord)
    assert read_manifest(tmp_path / "3.csv", RealRecord) == []


def test_two_rows_for_one_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two rows for a.png"):
        write_manifest(tmp_path / "m.csv", [real("a.png"), real("a.png")], RealRecord)


def test_a_faulty_manifest_is_told_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    row = SelectedRecord(
        path="a.png", sha256="0", class_name="a", role="positive", origin="real", source="a.png", group="g"
    )
    write_manifest(path, [row], SelectedRecord)
    good = path.read_text()
    path.write_text(good.replace("nan", "much").replace("a.png,0", "../a.png,0"))
    with pytest.raises(UserError) as caught:
        read_manifest(path, SelectedRecord)
    assert "line 2, percentile" in str(caught.value)
    assert "line 2, path" in str(caught.value)
    path.write_text(good.replace("origin", "orgin"))
    with pytest.raises(UserError, match="missing columns origin"):
        read_manifest(path, SelectedRecord)
    with pytest.raises(UserError, match="is missing: run the stage"):
        read_manifest(tmp_path / "none.csv", SelectedRecord)
    path.write_text(good + "b.png,0\n")
    with pytest.raises(UserError, match="line 3, class_name"):
        read_manifest(path, SelectedRecord)
    path.write_text(good.rstrip("\n") + ",more\n")
    with pytest.raises(UserError, match="line 2"):
        read_manifest(path, SelectedRecord)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no table"):
        read_manifest(path, SelectedRecord)


def test_a_picture_other_than_its_record_is_refused(tmp_path: Path) -> None:
    sha = write_png(tmp_path / "a.png", np.full((8, 8), 7, np.uint8))
    row = real("a.png", sha256=sha)
    assert read_image(tmp_path, row).size == (8, 8)
    assert read_image(tmp_path, row).mode == "RGB"
    with pytest.raises(UserError, match="8 x 8 pixels, expected 64 x 64"):
        read_image(tmp_path, row, size=64)
    write_png(tmp_path / "a.png", np.full((8, 8), 8, np.uint8))
    with pytest.raises(UserError, match="differs from its manifest"):
        read_image(tmp_path, row)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="dvc checkout"):
        read_image(tmp_path, row)


def test_bad_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    write_json(tmp_path / "b.json", {"b": np.float32(0.5), "a": Path("x")})
    assert (tmp_path / "b.json").read_text() == '{\n "a": "x",\n "b": 0.5\n}\n'
