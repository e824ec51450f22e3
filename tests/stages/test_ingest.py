"""The stage as a whole; framing, splits, duplicates and writing have tests of their own in tests/sources."""

import csv
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partsynth.config.data import Ingest, Ood
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.stages import ingest
from partsynth.store.hashing import sha256_file
from partsynth.store.png import png_fingerprint


def texture(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def raw(tmp_path) -> Path:
    """Three classes; ``clean`` and ``pitted`` share six spots of three pictures each."""
    seed = 0
    for name in ("clean", "pitted"):
        for spot in range(6):
            for time in range(3):
                seed += 1
                save(tmp_path / "raw" / name / f"{time}_spot{spot}.png", texture(seed))
    for i in range(10):
        save(tmp_path / "raw" / "other" / f"0_alone{i}.png", texture(100 + i, (33, 50)))
    return tmp_path / "raw"


PATTERN = r"_(spot\d+|alone\d+)"


def run(params: Ingest, root: Path, ood: Ood = Ood(), raw: str = "raw") -> None:
    real, out = root / "data/real", root / "data/ood"
    ingest.run(ingest.Inputs(params=params, ood_params=ood, raw=root / raw, real=real, ood=out, root=root))


def go(root: Path, ood: Ood = Ood(), **params) -> tuple[list[RealRecord], list[RealRecord]]:
    told = {"source": "folder", "masks": "none", "size": 16, "group_pattern": PATTERN} | params
    run(Ingest(**told), root, ood)
    return tuple(read_manifest(root / "data" / d / "manifest.csv", RealRecord) for d in ("real", "ood"))


def snapshot(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in sorted(root.rglob("*")) if p.is_file()}


def splits_of_groups(rows) -> dict[str, set[str]]:
    found = defaultdict(set)
    for row in rows:
        found[row.group].add(row.split)
    return found


def test_no_spot_in_two_splits_and_everything_is_accounted_for(tmp_path, raw):
    rows, ood = go(tmp_path)
    assert len(rows) == 46 and ood == []
    assert all(len(s) == 1 for s in splits_of_groups(rows).values())
    have = Counter((r.class_name, r.split) for r in rows)
    for name in ("clean", "pitted", "other"):
        assert have[name, "train"] >= 3 and have[name, "val"] >= 1 and have[name, "test"] >= 1
    for row in rows:
        path = tmp_path / row.path
        assert sha256_file(path) == row.sha256
        assert Image.open(path).size == (16, 16)
        assert png_fingerprint(path)
        assert row.source_sha256 == sha256_file(raw / row.source)
        assert row.path == f"data/real/{row.split}/{row.class_name}/{path.name}"
    assert (tmp_path / "data/ood/manifest.csv").read_text().startswith("path,sha256")
    assert (tmp_path / "data/real/duplicates.csv").read_text() == "path_a,path_b,kind,bits\n"


def test_again_changes_no_byte_and_repairs_what_is_torn(tmp_path, raw):
    go(tmp_path)
    before = snapshot(tmp_path / "data")
    kept = {p: os.stat(p).st_mtime_ns for p in (tmp_path / "data/real/train").rglob("*.png")}
    torn = next(iter(kept))
    torn.write_bytes(torn.read_bytes()[:50])
    stranger = tmp_path / "data/real/train/gone/of_another_run.png"
    stranger.parent.mkdir()
    shutil.copy(list(kept)[1], stranger)
    (tmp_path / "data/real/manifest.csv").unlink()  # as after a kill: the manifest is missing, images are there
    go(tmp_path)
    assert snapshot(tmp_path / "data") == before
    assert all(os.stat(p).st_mtime_ns == t for p, t in kept.items() if p != torn)


def test_photographs_put_into_an_output_folder_survive(tmp_path, raw):
    go(tmp_path)
    own = tmp_path / "data/real/train/clean/my_only_copy.jpg"
    save(own, texture(1))
    before = snapshot(tmp_path / "data")
    with pytest.raises(UserError, match=r"my_only_copy\.jpg, which this stage did not make"):
        go(tmp_path, seed=1)
    assert snapshot(tmp_path / "data") == before


def test_another_seed_draws_other_splits(tmp_path, raw):
    first, _ = go(tmp_path)
    second, _ = go(tmp_path, seed=1)
    assert splits_of_groups(first) != splits_of_groups(second)
    assert snapshot(tmp_path / "data/real").keys() == {r.path[10:] for r in second} | {"manifest.csv", "duplicates.csv"}


def test_all_faults_at_once_and_nothing_written(tmp_path, raw):
    go(tmp_path)
    before = snapshot(tmp_path / "data")
    (raw / "clean/0_spot0.png").write_bytes(b"broken")
    (raw / "other/0_alone0.png").write_bytes((raw / "other/0_alone0.png").read_bytes()[:400])
    save(raw / "few/0_spot1.png", texture(900))
    (raw / "empty").mkdir()
    with pytest.raises(UserError) as error:
        go(tmp_path, masks="required")
    text = str(error.value)
    for part in (
        "clean/0_spot0.png: not a picture",
        "other/0_alone0.png: damaged",
        "clean/1_spot0.png: no mask",
        "empty: no picture in this class",
        "few: too few pictures",
    ):
        assert part in text or "more" in text
    assert re.search(r"has \d+ fault\(s\)", text)
    assert snapshot(tmp_path / "data") == before
    with pytest.raises(UserError) as error:
        go(tmp_path)
    for part in ("clean/0_spot0.png: not a", "other/0_alone0.png: damaged", "empty: no picture", "few: too few"):
        assert part in str(error.value)
    assert snapshot(tmp_path / "data") == before


def test_bad_ones_are_skipped_and_listed(tmp_path, raw):
    (raw / "clean/0_spot0.png").write_bytes(b"broken")
    (raw / "empty").mkdir()
    save(raw / "few/0_spot1.png", texture(900))
    rows, _ = go(tmp_path, on_bad="skip")
    assert len(rows) == 45
    with open(tmp_path / "data/real/skipped.csv", newline="") as file:
        assert [r["name"] for r in csv.DictReader(file)] == ["clean/0_spot0.png", "empty", "few"]


@pytest.mark.parametrize("on_bad", ["fail", "skip"])
def test_what_cannot_be_skipped(tmp_path, raw, on_bad):
    with pytest.raises(UserError, match=r"nowhere.*no such folder"):
        run(Ingest(source="folder"), tmp_path, raw="nowhere")
    with pytest.raises(UserError, match="no such class folder; there are: clean, other, pitted"):
        go(tmp_path, classes=["clean", "other", "pited"], on_bad=on_bad)
    with pytest.raises(UserError, match="1 left to tell apart"):
        go(tmp_path, classes=["other"], on_bad=on_bad)
    with pytest.raises(UserError, match="'gear' is no class of the source"):
        go(tmp_path, Ood(holdout_classes=["gear"]), on_bad=on_bad)
    assert not (tmp_path / "data/real").exists()


def test_duplicates_across_splits(tmp_path, raw):
    rows, _ = go(tmp_path)
    place = {r.source: r.split for r in rows}
    train = next(s for s, p in place.items() if p == "train" and s.startswith("other"))
    test = next(s for s, p in place.items() if p == "test" and s.startswith("other"))
    (raw / test).write_bytes((raw / train).read_bytes())
    with pytest.raises(UserError, match="exact duplicate"):
        go(tmp_path)
    go(tmp_path, on_duplicate="warn")
    with open(tmp_path / "data/real/duplicates.csv", newline="") as file:
        found = [(r["path_a"], r["path_b"], r["kind"]) for r in csv.DictReader(file)]
    assert found == [(*sorted([train, test]), "exact")]


def test_one_photograph_under_two_classes_is_a_fault(tmp_path, raw):
    (raw / "pitted/0_spot0.png").write_bytes((raw / "clean/0_spot0.png").read_bytes())
    with pytest.raises(UserError, match=r"exact duplicate of pitted/0_spot0\.png"):
        go(tmp_path)


def test_holding_a_class_out(tmp_path, raw):
    rows, ood = go(tmp_path, Ood(holdout_classes=["other"]))
    assert {r.class_name for r in rows} == {"clean", "pitted"}
    assert {(r.role, r.split) for r in ood} == {("near_ood", "val"), ("near_ood", "test")}
    assert len(ood) == 10
    assert all(r.path.startswith(f"data/ood/near/{r.split}/other/") for r in ood)


def test_a_held_out_photograph_of_a_trained_spot_is_left_out(tmp_path, raw, capsys):
    rows, ood = go(tmp_path, Ood(holdout_classes=["pitted"]))
    groups = splits_of_groups([*rows, *ood])
    assert all(len(s) == 1 for s in groups.values())
    trained = {r.group for r in rows if r.split == "train"}
    assert not trained & {r.group for r in ood}
    assert 0 < len(ood) < 18
    assert "held-out images left out" in capsys.readouterr().out


def test_shots(tmp_path, raw):
    full, _ = go(tmp_path)
    few, _ = go(tmp_path, shots=2)
    assert Counter(r.class_name for r in few if r.split == "train") == {"clean": 2, "pitted": 2, "other": 2}
    assert {r.path for r in few} < {r.path for r in full}
    assert [r for r in few if r.split != "train"] == [r for r in full if r.split != "train"]
    fewer, _ = go(tmp_path, shots=2, val_shots=1)
    assert [r for r in fewer if r.split != "val"] == [r for r in few if r.split != "val"]
    assert Counter(r.class_name for r in fewer if r.split == "val") == {"clean": 1, "pitted": 1, "other": 1}


def test_the_mask_frames_the_part(tmp_path):
    for n, (name, split) in enumerate(itertools.product("ab", ("train", "valid", "test"))):
        for i in range(3):
            base = tmp_path / "raw" / name / f"{split}_data" / f"set{i}" / "cam"
            pixels = np.full((60, 80, 3), (10, 10, 200), np.uint8)
            pixels[20:40, 30:60] = texture(3 * n + i, (30, 20)) // 2 + (128, 64, 0)
            mask = np.zeros((60, 80), np.uint8)
            mask[20:40, 30:60] = 255
            save(base / f"{i}_rgb.png", pixels)
            save(base / f"{i}_rgb_mask_gen.png", mask)
    rows, _ = go(tmp_path, source="mvip", masks="required", group_pattern=None, dilation=0.0, size=30)
    assert len(rows) == 18
    for row in rows:
        assert row.box == "30,15,60,45"  # 30 x 20 widened to 30 x 30 about its centre
        framed = np.asarray(Image.open(tmp_path / row.mask))
        assert row.mask == f"data/real/masks/{row.split}/{row.class_name}/{Path(row.path).name}"
        assert (framed[5:25] == 255).all() and (framed[:5] == 0).all() and (framed[25:] == 0).all()
        assert np.asarray(Image.open(tmp_path / row.path))[:4, :, 2].min() > 150  # background above the part


def test_without_a_mask_the_frame_is_whole_or_its_middle(tmp_path, raw):
    whole, _ = go(tmp_path)
    assert {r.box for r in whole if r.class_name == "clean"} == {"0,-5,40,35"}
    centre, _ = go(tmp_path, unmasked="centre")
    assert {r.box for r in centre if r.class_name == "clean"} == {"5,0,35,30"}


def test_names_that_meet_are_told_apart(tmp_path, raw):
    save(raw / "other/0_alone0.bmp", texture(500, (33, 50)))
    save(raw / "other/0 alone0.png", texture(501, (33, 50)))
    rows, _ = go(tmp_path, group_pattern=None)
    names = [Path(r.path).name for r in rows if "alone0" in r.path]
    assert len(set(names)) == 3 and all(re.fullmatch(r"0_alone0-[0-9a-f]{8}\.png", n) for n in names)


def test_a_kill_leaves_no_litter_and_the_next_run_completes(tmp_path, raw):
    script = (
        "import os, signal, sys; from pathlib import Path; from partsynth.stages import ingest; "
        "from partsynth.config.data import Ingest, Ood; from partsynth.sources import write; n = [0]\n"
        "real = write.write_bytes_atomic\n"
        "def dying(path, data):\n"
        "    n[0] += 1\n"
        "    if n[0] == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(path, data)\n"
        "write.write_bytes_atomic = dying\n"
        f"params = Ingest(source='folder', masks='none', size=16, group_pattern={PATTERN!r})\n"
        "paths = {'raw': Path('raw'), 'real': Path('data/real'), 'ood': Path('data/ood'), 'root': Path('.')}\n"
        "ingest.run(ingest.Inputs(params=params, ood_params=Ood(), **paths))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "data/real/manifest.csv").exists()
    rows, _ = go(tmp_path)
    killed_and_resumed = snapshot(tmp_path / "data")
    assert len(rows) == 46
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    go(tmp_path)
    assert snapshot(tmp_path / "data") == killed_and_resumed


def test_what_was_read_and_left_out_is_told_by_kind_and_number(tmp_path, raw, capsys):
    (raw / "clean/Thumbs.db").write_bytes(b"x")
    (raw / "clean/@eaDir").mkdir()
    for n in range(3):
        (raw / f"pitted/{n}.cr2").write_bytes(b"x")
    (raw / "other/notes.txt").write_text("x")
    for n in range(2):
        (raw / f"clean/{n}_spot0.png").write_bytes(b"broken")
    go(tmp_path, on_bad="skip")
    told = capsys.readouterr().out
    assert "ingest: read 46 images (46 .png), used 44" in told
    assert "left out: 3 .cr2 (not read: save them as PNG, TIFF or JPEG), 2 rubbish of file systems, 1 .txt" in told
    assert "skipped: 2 not a picture" in told
    with open(tmp_path / "data/real/skipped.csv", newline="") as file:
        assert [r["name"] for r in csv.DictReader(file)] == [
            "clean/0_spot0.png",
            "clean/1_spot0.png",
            "pitted/0.cr2",
            "pitted/1.cr2",
            "pitted/2.cr2",
        ]


def test_a_photograph_that_was_taken_down_stays_out_under_any_name(tmp_path, raw, capsys):
    before, _ = go(tmp_path)
    assert not (tmp_path / "data/real/taken_down.csv").exists()
    gone = next(row for row in before if row.class_name == "clean")
    shutil.move(raw / gone.source, raw / "clean/brought_back_spot99.png")
    note = "2026-11-26 asked for by its owner"
    after, _ = go(tmp_path, taken_down={gone.source_sha256: note})
    assert {row.source_sha256 for row in before} - {row.source_sha256 for row in after} == {gone.source_sha256}
    assert f"clean/brought_back_spot99.png left out: it was taken down ({note})" in capsys.readouterr().out
    with open(tmp_path / "data/real/taken_down.csv", newline="") as file:
        assert list(csv.reader(file)) == [["sha256", "note"], [gone.source_sha256, note]]
    with pytest.raises(ValueError, match="taken_down"):
        Ingest(taken_down={"not a hash": note})


def test_rubbish_changes_no_byte(tmp_path, raw):
    go(tmp_path)
    before = snapshot(tmp_path / "data")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0_spot0.png"):
        (raw / "clean" / name).write_bytes(b"x")
    go(tmp_path)
    assert snapshot(tmp_path / "data") == before


def test_shifted_photographs_of_one_s_own(tmp_path, raw, capsys):
    for n in range(4):
        save(tmp_path / "there/clean" / f"9_far{n}.png", texture(700 + n))
        save(tmp_path / "there/other" / f"9_far{n}.png", texture(800 + n))
    (tmp_path / "dvc.yaml").write_text("stages:\n  ingest:\n    deps:\n      - ${ingest.path}\n")
    plain, _ = go(tmp_path)
    rows, ood = go(
        tmp_path, Ood(holdout_classes=["pitted"]), shifted="there", group_pattern=r"_(spot\d+|alone\d+|far\d+)"
    )
    shifted = [r for r in rows if r.split == "shifted"]
    assert Counter(r.class_name for r in shifted) == {"clean": 4, "other": 4} and ood
    for row in shifted:
        assert row.source_sha256 == sha256_file(tmp_path / "there" / row.source.removeprefix("shifted/"))
        assert row.path.startswith(f"data/real/shifted/{row.class_name}/")
    assert "DVC does not watch ingest.shifted: `partsynth upgrade` writes it" in capsys.readouterr().out
    assert go(tmp_path)[0] == plain


def test_photographs_of_other_things_are_far_ood(tmp_path, raw):
    plain, _ = go(tmp_path, Ood(holdout_classes=["pitted"]), masks="none")
    for n in range(6):
        save(tmp_path / "others/clean2" / f"{n}.png", texture(900 + n))
        save(tmp_path / "others" / f"{n}.png", texture(950 + n))
    with pytest.raises(UserError, match="far/clean: is a class of the source too"):
        save(tmp_path / "others/clean/0.png", texture(999))
        go(tmp_path, Ood(holdout_classes=["pitted"], far="others"))
    shutil.rmtree(tmp_path / "others/clean")
    rows, ood = go(tmp_path, Ood(holdout_classes=["pitted"], far="others"))
    assert rows == plain
    far = [r for r in ood if r.role == "far_ood"]
    assert Counter((r.class_name, r.split) for r in far) == {
        (c, s): 3 for c in ("clean2", "others") for s in ("val", "test")
    }
    for row in far:
        assert row.path.startswith(f"data/ood/far/{row.split}/{row.class_name}/") and not row.mask
        assert row.source_sha256 == sha256_file(tmp_path / "others" / row.source.removeprefix("far/"))


def test_other_things_need_no_masks_where_parts_do(tmp_path):
    for n in range(8):
        for name in ("a", "b"):
            save(tmp_path / f"raw/{name}/{n}.png", texture(n + 50 * (name == "b")))
            mask = np.zeros((30, 40), np.uint8)
            mask[8:20, 8:30] = 255
            save(tmp_path / f"raw/{name}/{n}_mask.png", mask)
        save(tmp_path / f"others/{n}.png", texture(200 + n))
    rows, ood = go(tmp_path, Ood(far="others"), masks="required", group_pattern=None)
    assert all(r.mask for r in rows) and len(ood) == 8


def test_what_export_tools_make_of_one_photograph_stays_in_one_split(tmp_path):
    for c, name in enumerate("ab"):
        for n in range(8):
            pixels = texture(100 * c + n)
            save(tmp_path / f"raw/{name}/{n}_jpg.rf.{'a1' * 16}.png", pixels)
            save(tmp_path / f"raw/{name}/{n}_jpg.rf.{'b2' * 16}.png", pixels[:, ::-1])
    rows, _ = go(tmp_path, group_pattern=None)
    assert len(rows) == 32 and all(len(splits) == 1 for splits in splits_of_groups(rows).values())
    for path in (tmp_path / "raw").rglob("*.png"):
        path.rename(path.with_name(path.name.replace(".rf.", "-")))
    with pytest.raises(UserError, match="mirrored or turned duplicate"):
        go(tmp_path, group_pattern=None)


def test_split_folders_are_no_classes(tmp_path):
    for n, (split, name) in enumerate(itertools.product(("train", "val", "test"), ("gear", "nut"))):
        for i in range(4):
            save(tmp_path / f"raw/{split}/{name}/{i}.png", texture(10 * n + i))
    rows, _ = go(tmp_path, group_pattern=None)
    assert Counter((r.class_name, r.split) for r in rows) == {
        (name, split): 4 for name in ("gear", "nut") for split in ("train", "val", "test")
    }
