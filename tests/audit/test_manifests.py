"""What ingest accepts, an audit of the untouched data accepts; what was changed afterwards it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import in_process
from PIL import Image

from partsynth.audit.manifests import check_manifests
from partsynth.audit.rows import part_with
from partsynth.audit.source import trace_source
from partsynth.audit.workspace import Workspace
from partsynth.config.data import Ingest, Ood
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord
from partsynth.stages import ingest

STAGES = {"ingest": {"outs": [{"path": "data/real"}, {"path": "data/ood"}]}}


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    """Three classes whose photographs share eight spots."""
    for c, name in enumerate(("clean", "pitted", "worn")):
        for spot in range(8):
            for time in range(2):
                save(tmp_path / "raw" / name / f"{time}_spot{spot}.png", 100 * c + 10 * spot + time)
    return tmp_path


def go(root: Path, *held_out: str, **params) -> None:
    told = Ingest(**({"source": "folder", "masks": "none", "size": 16, "group_pattern": r"_(spot\d+)"} | params))
    places = {"raw": root / "raw", "real": root / "data/real", "ood": root / "data/ood", "root": root}
    ingest.run(ingest.Inputs(params=told, ood_params=Ood(holdout_classes=list(held_out)), **places))


def faults(root: Path) -> list[str]:
    return [f"{fault.path}: {fault.message}" for fault in check_manifests(Workspace(root), STAGES)[1]]


def test_a_held_out_class_that_shares_groups_with_the_targets_passes(root):
    go(root, "worn")
    ood = read_manifest(root / "data/ood/manifest.csv", RealRecord)
    real = read_manifest(root / "data/real/manifest.csv", RealRecord)
    assert {r.group for r in ood} & {r.group for r in real}
    assert faults(root) == []


def test_a_group_in_two_splits_is_named_whatever_its_role(root):
    go(root, "worn")
    path = root / "data/ood/manifest.csv"
    rows = read_manifest(path, RealRecord)
    other = {"val": "test", "test": "val"}
    write_manifest(path, [rows[0].model_copy(update={"split": other[rows[0].split]}), *rows[1:]], RealRecord)
    assert len(faults(root)) == 1 and f"group {rows[0].group!r} is in 2 splits" in faults(root)[0]


def test_accepted_duplicates_pass_and_others_do_not(root):
    for name in ("clean", "pitted", "worn"):
        for spot in range(8):
            (root / "raw" / name / f"9_copy{spot}.png").write_bytes(
                (root / "raw" / name / f"0_spot{spot}.png").read_bytes()
            )
    go(root, on_duplicate="warn", group_pattern=None)
    rows = read_manifest(root / "data/real/manifest.csv", RealRecord)
    splits = {
        sha256: {r.split for r in rows if r.source_sha256 == sha256} for sha256 in {r.source_sha256 for r in rows}
    }
    assert any(len(there) > 1 for there in splits.values())
    assert faults(root) == []
    table = root / "data/real/duplicates.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert "the same photograph is in 2 splits" in " ".join(faults(root))


def test_a_photograph_of_any_name_is_found(root):
    names = ['3" pipe.png', "a,b; #5 50% [x] (y) & Größe 齿轮.png", "-leading dash.png", "Kru\u0308mmer.png"]
    for seed, name in enumerate(names):
        save(root / "raw/clean" / name, 990 + seed)
    go(root, group_pattern=None)
    assert in_process.dvc(root, "init", "--no-scm", "-q").code == 0
    for name in names:
        assert trace_source(root, f"clean/{name}").data["photograph"]["source"] == f"clean/{name}"
    # macOS writes a letter and its dots, people type them as one
    found = trace_source(root, "clean/Kr\u00fcmmer.png").data["photograph"]["source"]
    assert found == "clean/Kru\u0308mmer.png"


def test_rows_with_quotes_are_found():
    table = b'path,source\nx.png,"a/3"" pipe.png"\ny.png,b\n'
    assert part_with(table, 'a/3" pipe.png').splitlines() == table.decode().splitlines()[:2]
