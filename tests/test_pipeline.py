"""The whole way of the data, run for real and small: DVC, a tiny Stable Diffusion, Great Expectations, MLflow.

The first time each stage is a process of its own, as with any user; later ones run in this process.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import in_process, tiny_sd
from helpers.whole_project import draw, merge

from partsynth.audit.verify import verify
from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.evaluation import champion
from partsynth.project import init
from partsynth.project.check import check
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, SelectedRecord, VerdictRecord
from partsynth.store.hashing import sha256_file

pytestmark = pytest.mark.slow

SETUPS = ("real", "real_id", "real_id_negatives")
SETS = ("id", "near_ood")
ALL = [
    "ingest",
    "adapt",
    "tokens",
    *(f"calibrate@{s}" for s in SETS),
    *(f"generate@{s}" for s in SETS),
    *(f"quality@{s}" for s in SETS),
    *(f"select@{s}" for s in SETUPS),
    *(f"train@{s}-0" for s in SETUPS),
    "evaluate",
    "report",
]
PER_CLASS = 16  # photographs
SMALL = {
    "ingest": {"size": 32, "group_pattern": None},
    "ood": {"holdout_classes": ["shaft"]},
    "diffusion": {"size": 32},
    "tokens": {"steps": 4, "vectors": 2, "batch_size": 2},
    "generate": {"steps": 4, "batch_size": 4, "max_sources": 4},
    "sets": {name: {"variants": 1} for name in SETS},
    "quality": {"on_flagged": "warn"},
    "select": {"real_id_negatives": {"role": "negative", "rule": "all"}},
    "matrix": {"seeds": [0]},
    "train": {
        "steps": 6,
        "size": 32,
        "width": 8,
        "embedding": 16,
        "anchors": 8,
        "negatives": 4,
        "classifier_steps": 10,
    },
}


def ran(root: Path) -> list[str]:
    """The stages that `dvc repro` runs."""
    done = in_process.dvc(root, "repro")
    assert done.code == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stages


def edit(root: Path, change: Callable[[dict], object]) -> None:
    loaded = yaml.safe_load((root / "params.yaml").read_text())
    change(loaded)
    (root / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from partsynth.core.drift import reference

    folder = tiny_sd.build(tmp_path_factory.mktemp("model") / "base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), folder / "reference_encoder", 32)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for kind, name in enumerate(("flange", "gear", "shaft")):
        draw(folder / name, kind, PER_CLASS)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, photos: Path, base: Path) -> Path:
    """A project from the preset `folder`, made small and run once. The tests below change it one after another."""
    root = tmp_path_factory.mktemp("project") / "own"
    init.init(root, "folder", photos, base)
    edit(root, lambda loaded: (loaded["sets"].pop("far_ood"), merge(loaded, SMALL)))
    check(root, root / "params.yaml")
    done = subprocess.run(["dvc", "repro"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.findall(r"Running stage '([^']*)'", done.stdout) == ALL
    return root


def test_everything_lies_under_its_fixed_name(own: Path) -> None:
    real = read_manifest(own / "data/real/manifest.csv", RealRecord)
    assert {r.split for r in real} == {"train", "val", "test"}
    assert all(re.fullmatch(r"data/real/(train|val|test)/(flange|gear)/[^/]+\.png", r.path) for r in real)
    ood = read_manifest(own / "data/ood/manifest.csv", RealRecord)
    assert ood and all(re.fullmatch(r"data/ood/near/(val|test)/shaft/[^/]+\.png", r.path) for r in ood)
    tokens = {p.name for p in (own / "models/tokens").iterdir()}
    assert {"flange.safetensors", "gear.safetensors", "manifest.json"} <= tokens
    for name in SETS:
        rows = read_manifest(own / f"data/augmented/{name}/manifest.csv", SdeditRecord)
        assert len(rows) == 8
        for row in rows:
            assert re.fullmatch(rf"data/augmented/{name}/(flange|gear)/[^/]+\.png", row.path)
            assert sha256_file(own / row.path) == row.sha256
        verdicts = read_manifest(own / f"data/quality/{name}.csv", VerdictRecord)
        assert [v.path for v in verdicts] == [r.path for r in rows]
        assert list((own / f"reports/quality/{name}").rglob("index.html"))
    for setup in SETUPS:
        folder = own / f"models/supcon/{setup}/0"
        for file in ("encoder.safetensors", "classifier.safetensors", "config.json"):
            assert (folder / file).is_file()
        assert (own / f"models/runs/{setup}/0.json").is_file()
    summary = json.loads((own / "reports/metrics/summary.json").read_text())
    assert tuple(summary["setups"]) == SETUPS
    for metrics in summary["setups"].values():
        assert {
            "accuracy_test",
            "near_ood_auroc",
            "near_ood_fpr95",
            "id_confidence",
            "ood_confidence",
        } <= metrics.keys()
        assert metrics["accuracy_test"].keys() >= {"mean", "low", "high", "values"}
    assert ("real_id", "real") in {(d["setup"], d["base"]) for d in summary["differences"]}
    page = (own / "reports/index.html").read_text()
    assert all(setup in page for setup in SETUPS)


def test_each_setup_is_the_one_before_and_one_more_set(own: Path) -> None:
    rows = {s: read_manifest(own / f"data/selected/{s}.csv", SelectedRecord) for s in SETUPS}
    assert {(r.origin, r.role) for r in rows["real"]} == {("real", "positive")}
    assert {(r.origin, r.role) for r in rows["real_id"]} == {("real", "positive"), ("id", "positive")}
    added = {(r.origin, r.role) for r in rows["real_id_negatives"]} - {(r.origin, r.role) for r in rows["real_id"]}
    assert added == {("near_ood", "negative")}
    training = {r.path for r in read_manifest(own / "data/real/manifest.csv", RealRecord) if r.split == "train"}
    assert {r.source for r in rows["real_id_negatives"]} <= training


def test_every_training_is_a_run_in_mlflow(own: Path) -> None:
    with sqlite3.connect(f"file:{own / 'mlflow.db'}?mode=ro", uri=True) as store:
        finished = {row[0] for row in store.execute("select run_uuid from runs where status = 'FINISHED'")}
        inputs = store.execute("select count(*) from inputs").fetchone()[0]
    for setup in SETUPS:
        assert json.loads((own / f"models/runs/{setup}/0.json").read_text())["run_id"] in finished
    assert inputs >= 3


def test_a_second_time_nothing_runs(own: Path) -> None:
    assert ran(own) == []
    assert in_process.run(["partsynth", "summary"], own) == 0
    done = subprocess.run(["git", "status", "--porcelain"], cwd=own, capture_output=True, text=True)
    assert done.stdout.split() == ["M", "params.yaml", "??", "dvc.lock"]  # no data that `git add -A` would take


def test_a_clean_finished_project_passes_its_audit(own: Path) -> None:
    done = subprocess.run(["partsynth", "audit", "verify"], cwd=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert verify(own).data["checked"]["stages"] == len(ALL)
    assert "@champion" in champion.register(own, None, "champion")
    assert not verify(own).faults


def test_a_clone_that_pulled_the_data_but_not_the_photographs_is_in_order(own: Path, photos: Path) -> None:
    here = str(photos.resolve())
    away = photos.rename(photos.with_name("away"))
    try:
        found = verify(own)
        assert not found.faults
        assert here in [text for key, text in found.data["checked"].items() if "not here" in key]
        assert any("is not here, what ingest made of it is" in line for line in check(own, own / "params.yaml"))
    finally:
        away.rename(photos)


def test_editing_one_sets_strength_reruns_what_uses_it_and_nothing_else(own: Path) -> None:
    kept = {s: sha256_file(own / f"models/supcon/{s}/0/encoder.safetensors") for s in ("real", "real_id")}
    edit(own, lambda loaded: merge(loaded, {"sets": {"near_ood": {"strength": 0.7}}}))
    assert ran(own) == [
        "calibrate@near_ood",
        "generate@near_ood",
        "quality@near_ood",
        "select@real_id_negatives",
        "train@real_id_negatives-0",
        "evaluate",
        "report",
    ]
    rows = read_manifest(own / "data/augmented/near_ood/manifest.csv", SdeditRecord)
    assert {r.strength for r in rows} == {0.7}
    assert kept == {s: sha256_file(own / f"models/supcon/{s}/0/encoder.safetensors") for s in kept}


def test_an_unreadable_photograph_is_named_and_nothing_is_lost(own: Path, photos: Path) -> None:
    before = sha256_file(own / "data/real/manifest.csv")
    (photos / "gear/torn.png").write_bytes((photos / "gear/00.png").read_bytes()[:200])
    done = in_process.dvc(own, "repro")
    (photos / "gear/torn.png").unlink()
    assert done.code != 0
    assert "gear/torn.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert sha256_file(own / "data/real/manifest.csv") == before
    assert ran(own) == []


def test_one_more_class_trains_one_token(own: Path, photos: Path) -> None:
    before = {p.name: sha256_file(p) for p in (own / "models/tokens").glob("*.safetensors")}
    draw(photos / "washer", 3, PER_CLASS)
    done = in_process.dvc(own, "repro", "tokens")
    assert done.code == 0, done.stderr
    after = {p.name: sha256_file(p) for p in (own / "models/tokens").glob("*.safetensors")}
    assert after.keys() - before.keys() == {"washer.safetensors"}
    assert before.items() <= after.items()
