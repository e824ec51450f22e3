"""Replicates one after another: alone in their folder, and a small benchmark for real."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers import in_process, small_presets, tiny_sd
from helpers.replicates import SETUPS, finished, loaded

from partsynth.benchmark import project
from partsynth.benchmark.plan import Replicate, plan
from partsynth.benchmark.reproduce import Running
from partsynth.benchmark.run import Asked, alone, each, progress, run, so_far
from partsynth.errors import UserError
from partsynth.evaluation.predictions import recompute
from partsynth.evaluation.results import read_benchmark
from partsynth.project import dvc_process, init
from partsynth.project.given import Photographs
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord

TINY: dict[str, Any] = {
    "render": {
        "test_seed": 0,
        "size": 32,
        "samples": 4,
        "classes": ["gear_t12_h4_u1", "flange_n6_h5_u1"],
        "workers": 1,
    },
    "ingest": {"source": "rendered", "path": "data/raw", "size": 32, "near_duplicate": 0, "on_duplicate": "warn"},
    "diffusion": {"size": 32},
    "tokens": {"steps": 2, "vectors": 2, "batch_size": 2},
    "generate": {"steps": 4, "batch_size": 4, "max_sources": 2},
    "sets": {"near_ood": {"strength": 0.3, "variants": 1}, "unused": {"strength": 0.9}},
    "quality": {"on_flagged": "warn"},
    "select": {
        "real": {"rule": "all"},
        "real_neg": {"role": "negative", "rule": "all", "train": {"negative_weight": 2.0}},
    },
    "matrix": {"setups": ["real"], "seeds": [0]},
    "train": {"steps": 4, "size": 32, "width": 8, "embedding": 16, "anchors": 8, "negatives": 4, "classifier_steps": 4},
    "evaluate": {"k": [1, 3]},
    "benchmark": {
        "seeds": [1, 2],
        "setups": {"real": SETUPS["real"], "real_neg": SETUPS["real_neg"] | {"onto": "real"}},
        "replicates": {"main": 2, "control": 0, "ablation": 0},
        "few_shot": {"shots": [1], "setups": ["real", "real_neg"], "replicates": 1},
        "quick": {"setups": ["real"], "replicates": 1},
    },
}


def test_remaining_time_is_by_work_left() -> None:
    some = [Replicate("a", 0, None, ("r",) * 6), Replicate("b", 1, None, ("r",) * 6), Replicate("c", 2, 1, ("r",) * 3)]
    assert progress(some, some[:1], 600) == "1 of 3 replicates, 10.0 min, about 18 min left"
    assert progress(some, some, 600).endswith("about 0 min left")


def test_the_command_on_a_page_asks_for_the_same() -> None:
    told = Photographs(data=Path("a b"), far=Path("far"), held_out=("one", "two"), group_pattern=r"/(\d+)_")
    assert Asked(preset="benchmark-coins", quick=True, photographs=told).command == (
        "partsynth benchmark --preset benchmark-coins --quick --data 'a b' --far far --holdout one --holdout two "
        r"--group-pattern '/(\d+)_'"
    )
    assert Asked(preset="benchmark", main=True).command == "partsynth benchmark --preset benchmark --main"


def test_photographs_that_ingest_would_refuse_are_named_before_a_replicate_is_made(tmp_path: Path) -> None:
    for name in ("bolt", "nut", "washer"):
        small_presets.draw(tmp_path / "photos" / name, len(name), 48, masks=False, count=2)
    told = Photographs(data=tmp_path / "photos", held_out=("screw",), group_pattern=r"/(\d+)")
    with pytest.raises(UserError, match=r"cannot be run on these photographs:\n.*screw"):
        run(Asked(preset="benchmark-coins", photographs=told), work=tmp_path / "work", root=tmp_path)
    assert not (tmp_path / "work").exists()
    with pytest.raises(UserError, match="cannot be run on these photographs"):
        run(Asked(preset="benchmark-coins", photographs=Photographs(data=tmp_path / "no")), work=tmp_path / "work")


def test_two_benchmarks_do_not_share_a_work_folder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(UserError, match="another benchmark is running"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("workers", [1, 3])
def test_replicates_run_side_by_side_until_one_fails(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    some, began = [Replicate(name, 0, None, ()) for name in "abcdefgh"], list[str]()
    together, running, ended = threading.Barrier(workers, timeout=60), Running(), threading.Event()
    monkeypatch.setattr(running, "end", ended.set)

    def one(replicate: Replicate) -> None:
        began.append(replicate.folder)
        if replicate.folder in "abc":
            together.wait()  # comes through where all workers are in here at once
        elif replicate.folder == "d":
            raise UserError("d failed")
        else:
            assert ended.wait(60)

    with pytest.raises(UserError, match="d failed"):
        each(some, one, workers, running)
    assert set("abcd") <= set(began) and "h" not in began
    if workers == 1:
        assert began == list("abcd")


@pytest.mark.slow
def test_a_small_benchmark_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicates and one of one shot: run, reported, and with nothing left to do the second time.

    DVC and the stages run in this process; tests/benchmark/test_reproduce.py starts a process.
    """
    import torch

    from partsynth.core.drift import reference

    base = tiny_sd.build(tmp_path / "base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), base / "reference_encoder", 32)
    few = {"train": 3, "val": 2, "test": 2, "shifted": 1} | {
        f"{k}_{s}": 1 for k in ("near", "far") for s in ("val", "test")
    }
    preset = json.loads(json.dumps(TINY))
    preset["render"]["instances"] = few
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(preset, sort_keys=False))
    for module in (project, init):
        monkeypatch.setattr(module, "presets", lambda: {"tiny": tmp_path / "tiny.yaml"})
    pipes = {name: getattr(dvc_process.subprocess, name) for name in ("PIPE", "STDOUT")}
    monkeypatch.setattr(dvc_process, "subprocess", SimpleNamespace(Popen=in_process.Process, **pipes))
    home = tmp_path / "home"
    home.mkdir()
    options: dict[str, Any] = {
        "work": tmp_path / "work",
        "out": tmp_path / "out",
        "base": base,
        "root": home,
        "workers": 1,
    }
    run(Asked(preset="tiny"), **options)

    found = read_benchmark(tmp_path / "out/tiny.json")
    assert found.seeds == {"real": [1, 2], "real_neg": [1, 2]}
    assert list(found.few_shot) == ["1"] and found.few_shot["1"].order == ["real", "real_neg"]
    assert recompute(tmp_path / "out/tiny-predictions.csv.gz").differences == found.differences
    assert found.benchmark is not None
    lines = found.benchmark.replicates
    stages, shot = set(lines[0].seconds.stages), lines[2]
    assert {"render", "tokens", "generate@near_ood", "train@real_neg-1", "evaluate"} <= stages
    assert "generate@unused" not in stages and not (tmp_path / "work/tiny/all-seed1/data/augmented/unused").exists()
    assert shot.pictures["train"] == shot.pictures["val"] == 2
    work = tmp_path / "work/tiny"
    rows = [read_manifest(work / f"all-seed{n}/data/real/manifest.csv", RealRecord) for n in (1, 2)]
    for split in ("train", "val", "test", "shifted"):
        first, second = ({r.sha256 for r in some if r.split == split} for some in rows)
        assert first and (first == second if split in ("test", "shifted") else not first & second)

    renders = [
        {image.relative_to(folder): image.stat().st_mtime_ns for image in folder.rglob("*.png")}
        for folder in (work / f"all-seed{n}/data/raw" for n in (1, 2))
    ]
    taken_over = {image for image in renders[0] if renders[1].get(image) == renders[0][image]}
    splits = {image.parts[1] for image in taken_over}  # validation images of OOD variants are alike too
    assert splits == {"test_data", "shifted_data", "valid_data"}  # rendered once for both

    from partsynth.tracking.query import find_runs

    names = {line.folder: set(line.mlflow_runs.values()) for line in lines}
    monkeypatch.setenv("PARTSYNTH_ROOT", os.fspath(home))
    stored = {
        e: {r.run_id for r in find_runs(home, experiment=e)} for e in ("partsynth-tiny", "partsynth-tiny-1-shots")
    }
    assert stored["partsynth-tiny"] == names["all-seed1"] | names["all-seed2"]
    assert stored["partsynth-tiny-1-shots"] == names["shots1-seed1"]
    monkeypatch.delenv("PARTSYNTH_ROOT")

    before = {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    locks = {p: p.stat().st_mtime_ns for p in work.glob("*/dvc.lock")}
    run(Asked(preset="tiny"), **options)
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert {p: p.stat().st_mtime_ns for p in work.glob("*/dvc.lock")} == locks


def test_replicates_that_are_done_can_be_told_before_all_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = loaded(tmp_path)
    monkeypatch.setattr(project, "presets", lambda: {"small": tmp_path / "params.yaml"})
    replicates = plan(params, quick=False)
    asked, places = Asked(preset="small"), {"work": tmp_path / "work", "out": tmp_path}
    with pytest.raises(UserError, match="has no replicate that is done: start partsynth benchmark --preset small"):
        so_far(asked, **places)
    finished(tmp_path / "work/small", replicates[:2])
    page = so_far(asked, **places).read_text()
    assert f"**So far:** 2 of {len(replicates)} replicates" in page and "--preset small\n" in page
    found = read_benchmark(tmp_path / "small.json")
    assert found.seeds["real"] == [3, 5] and found.benchmark is not None and found.benchmark.planned == len(replicates)
    told = so_far(Asked(preset="small", main=True), **places).read_text()
    assert "**So far:** 2 of 3 replicates" in told and "--preset small --main" in told
    assert read_benchmark(tmp_path / "small.json").order == ["real", "real_id", "real_neg"]


def test_a_replicate_that_is_being_extended_is_told_with_the_setups_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = loaded(tmp_path)
    monkeypatch.setattr(project, "presets", lambda: {"small": tmp_path / "params.yaml"})
    extended, *others = [replicate for replicate in plan(params, quick=False) if replicate.shots is None]
    finished(tmp_path / "work/small", [replace(extended, setups=extended.setups[:2]), *others])
    so_far(Asked(preset="small"), work=tmp_path / "work", out=tmp_path)
    found = read_benchmark(tmp_path / "small.json")
    has, lacks = extended.setups[1:3]
    assert extended.seed in found.seeds[has] and extended.seed not in found.seeds[lacks]
    assert found.seeds[lacks] == [replicate.seed for replicate in others if lacks in replicate.setups]
