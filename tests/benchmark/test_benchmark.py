"""Replicates: planned, made into projects, run by DVC, joined; and the report's figures are those of its predictions."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import tiny_sd
from typer.testing import CliRunner

from partsynth.benchmark import join, plan
from partsynth.benchmark import run as benchmark_run
from partsynth.benchmark.join import compressed
from partsynth.benchmark.plan import SECONDS, Replicate, parameters
from partsynth.benchmark.run import Clock, _alone, take_over
from partsynth.cli.main import app
from partsynth.config import load as config_load
from partsynth.config.load import read_yaml
from partsynth.config.params import Params
from partsynth.config.training import Evaluate
from partsynth.core.evaluation import ood
from partsynth.errors import UserError
from partsynth.evaluation.predictions import read_predictions, recompute, to_csv
from partsynth.evaluation.summary import summarise
from partsynth.project.dvcfile import graph_for, with_setups
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.reporting.benchmark import _cell
from partsynth.store.files import write_json, write_text_atomic
from partsynth.store.hashing import sha256_file

ROOT = Path(__file__).parents[2]
SETUPS = {
    "real": {"adds": "Photographs"},
    "real_id": {"adds": "ID augmentations", "onto": "real", "set": "id"},
    "real_neg": {"adds": "Band negatives", "onto": "real_id", "set": "near_ood"},
    "real_vae": {
        "adds": "VAE round trips",
        "kind": "control",
        "onto": "real",
        "set": "vae",
        "against": ["real", "real_id"],
    },
}
VARIED = {
    "adds": "Lambda 3",
    "kind": "ablation",
    "onto": "real_id",
    "set": "near_ood",
    "against": ["real_neg", "real_id"],
}
SMALL = {
    "render": {"size": 32},
    "ingest": {"path": "data/raw"},
    "sets": {name: {"strength": 0.3} for name in ("id", "near_ood", "vae")},
    "select": {
        "real": {"rule": "all"},
        "real_id": {},
        "real_neg": {"role": "negative", "rule": "band"},
        "real_vae": {"rule": "all"},
    },
    "matrix": {"setups": ["real"], "seeds": [0]},
    "evaluate": {"k": [1]},
    "benchmark": {
        "seeds": [5, 3, 9],
        "setups": SETUPS,
        "replicates": {"main": 3, "control": 2, "ablation": 0},
        "few_shot": {"shots": [1, 4], "setups": ["real", "real_id"], "replicates": 2},
        "quick": {"setups": ["real", "real_id"], "replicates": 2},
        "targets": [
            {"setup": "real_id", "against": "real", "measure": "accuracy_shifted", "mean": -1.0, "low": -9.0},
            {"setup": "real_id", "against": "real", "measure": "accuracy_test", "mean": -1.0, "low": 0.99},
            {"setup": "real_vae", "against": "real_id", "measure": "accuracy_test", "mean": 1.01},
        ],
    },
}


def loaded(tmp_path: Path, **changes: object) -> Params:
    raw = json.loads(json.dumps(SMALL))
    raw["benchmark"] |= changes
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return config_load.load_all(path)


# --- plan -------------------------------------------------------------------------------------------------------------


def test_replicates_are_planned_in_order(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    every, main, few = tuple(SETUPS), ("real", "real_id", "real_neg"), ("real", "real_id")
    assert plan.plan(settings, quick=False) == [
        Replicate("all-seed5", 5, None, every),
        Replicate("all-seed3", 3, None, every),
        Replicate("all-seed9", 9, None, main),
        Replicate("shots1-seed5", 5, 1, few),
        Replicate("shots1-seed3", 3, 1, few),
        Replicate("shots4-seed5", 5, 4, few),
        Replicate("shots4-seed3", 3, 4, few),
    ]
    assert plan.plan(settings, quick=True) == [
        Replicate("quick-all-seed5", 5, None, few),
        Replicate("quick-all-seed3", 3, None, few),
    ]


def test_a_replicates_parameters_carry_its_seed_and_only_what_its_setups_need(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    raw = read_yaml(tmp_path / "params.yaml")
    made = parameters(raw, settings, Replicate("x", 7, 4, ("real_neg",)), None)
    assert [made[s]["seed"] for s in ("render", "ingest", "tokens", "generate")] == [7] * 4
    assert made["render"]["size"] == 32
    assert made["matrix"] == {"setups": ["real_neg"], "seeds": [7]}
    assert (made["ingest"]["shots"], made["ingest"]["val_shots"]) == (4, 4)
    assert list(made["select"]) == ["real", "real_id", "real_neg"] and list(made["sets"]) == ["id", "near_ood"]
    assert "benchmark" not in made and "study" not in made
    assert made["quality"] == {}  # DVC wants what dvc.yaml names
    whole = parameters(raw, settings, Replicate("x", 7, None, ("real",)), tmp_path)
    assert "shots" not in whole["ingest"] and whole["ingest"]["path"] == str(tmp_path) and whole["sets"] == {}
    assert raw == read_yaml(tmp_path / "params.yaml")  # what it was made from is as it was


def test_a_projects_graph_has_the_setups_of_its_replicate(tmp_path: Path) -> None:
    graph = yaml.safe_load(graph_for(loaded(tmp_path), ["real", "real_id", "real_vae"]))
    assert graph["stages"]["select"]["foreach"] == {
        "real": {"onto": "data/real/train", "manifest": "data/real/manifest.csv", "verdicts": "data/real/val"},
        "real_id": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/id/manifest.csv",
            "verdicts": "data/quality/id.csv",
        },
        "real_vae": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/vae/manifest.csv",
            "verdicts": "data/quality/vae.csv",
        },
    }
    shipped = (ROOT / "dvc.yaml").read_text()
    repository = yaml.safe_load(shipped)["stages"]["select"]["foreach"]
    chain = {"real": (None, "real"), "real_id": ("real", "id"), "real_id_negatives": ("real_id", "near_ood")}
    assert yaml.safe_load(with_setups(shipped, chain))["stages"]["select"]["foreach"] == repository


def test_sentences_name_what_was_added_or_exchanged(tmp_path: Path) -> None:
    assert plan.changes(loaded(tmp_path)) == {
        ("real_id", "real"): ("ID augmentations", "positive"),
        ("real_neg", "real_id"): ("Band negatives", "negative"),
        ("real_vae", "real"): ("VAE round trips", "positive"),
        ("real_vae", "real_id"): ("VAE round trips instead of ID augmentations", "positive"),
    }
    varied = SMALL | {"select": SMALL["select"] | {"varied": {"role": "negative", "train": {"negative_weight": 3.0}}}}
    varied["benchmark"] = SMALL["benchmark"] | {"setups": SETUPS | {"varied": VARIED}}
    (tmp_path / "varied.yaml").write_text(yaml.safe_dump(varied, sort_keys=False))
    found = plan.changes(config_load.load_all(tmp_path / "varied.yaml"))
    assert found["varied", "real_neg"] == ("Lambda 3", "negative") == found["varied", "real_id"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"setups": SETUPS | {"real": {"adds": "x", "onto": "real_id"}}}, "setups.real names 'real_id'"),
        (
            {"setups": {"real_vae": SETUPS["real_vae"] | {"against": [], "onto": None}, "real": SETUPS["real"]}},
            "first the main",
        ),
        (
            {"setups": {"real": {"adds": "x", "set": "ids"}}, "few_shot": {}, "quick": {}, "targets": []},
            "setups.real.set is 'ids'; sets has id",
        ),
        (
            {"setups": {"reel": {"adds": "x"}}, "few_shot": {}, "quick": {}, "targets": []},
            "benchmark.setups.reel has no entry in select",
        ),
        (
            {"targets": [{"setup": "real", "against": "real_id", "measure": "accuracy_test", "mean": 0}]},
            "not compared with 'real_id'",
        ),
        ({"targets": [{"setup": "real_id", "against": "real", "measure": "accuracy_test"}]}, "give mean, low, or both"),
        ({"few_shot": {"setups": ["reel"]}}, "few_shot.setups names 'reel'"),
        ({"few_shot": {"shots": [1]}}, "few_shot.shots needs few_shot.setups"),
        ({"seeds": [1, 1, 2]}, "each once"),
        ({"seeds": [1, 2]}, "3 replicates wanted, with 2 seeds"),
    ],
)
def test_a_benchmark_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, text: str) -> None:
    with pytest.raises(UserError, match=re.escape(text)):
        loaded(tmp_path, **changes)


def test_presets_without_a_benchmark_and_unknown_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no section benchmark; these have: benchmark, benchmark-photos"):
        benchmark_run.run("demo", work=tmp_path)
    with pytest.raises(UserError, match="no preset 'bench'"):
        benchmark_run.run("bench", work=tmp_path)
    with pytest.raises(UserError, match="needs --data"):
        benchmark_run.run("benchmark-photos", work=tmp_path, root=tmp_path)


# --- run --------------------------------------------------------------------------------------------------------------


def test_stages_are_timed_from_what_dvc_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 13.5, 20.0, 24.0])  # a stage's end reads the clock, then the next one's begin
    monkeypatch.setattr(benchmark_run.time, "monotonic", lambda: next(now))
    clock = Clock()
    for line in (
        "Running stage 'ingest':",
        "> partsynth",
        "Running stage 'generate@id':",
        "Stage 'train@a-0' is cached",
    ):
        clock.tell(line)
    assert clock.stop(whole=True) == {"ingest": 3.5, "generate@id": 4.0}


def test_a_stage_that_was_killed_has_no_time() -> None:
    clock = Clock()
    clock.tell("Running stage 'ingest':")
    clock.tell("Running stage 'tokens':")
    assert set(clock.stop(whole=False)) == {"ingest"}
    assert set(clock.stop(whole=True)) == {"ingest", "tokens"}


def test_a_stopped_benchmark_stops_what_it_started(tmp_path: Path) -> None:
    """SIGTERM while a stage runs: the stage is interrupted, its time not kept, and nothing goes on in the background."""
    (tmp_path / "stage.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntry: time.sleep(600)\n"
        "except KeyboardInterrupt: open('interrupted', 'w')\n"
    )
    graph = {"stages": {"evaluate": {"cmd": f"{sys.executable} stage.py"}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph))
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    code = (
        "from pathlib import Path; from partsynth.benchmark import run as benchmark; import os\n"
        "from partsynth.store.process import stoppable\n"
        "with stoppable(): benchmark.reproduce(Path.cwd(), 0.0, dict(os.environ))"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text():
                break
            time.sleep(0.1)
        stage = int((tmp_path / "pid").read_text())
        driver.terminate()
        assert driver.wait(60) != 0
    finally:
        driver.kill()
    assert (tmp_path / "interrupted").is_file() and not (tmp_path / SECONDS).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(stage, 0)


def test_remaining_time_is_by_work_left() -> None:
    some = [Replicate("a", 0, None, ("r",) * 6), Replicate("b", 1, None, ("r",) * 6), Replicate("c", 2, 1, ("r",) * 3)]
    assert benchmark_run.progress(some, some[:1], 600) == "1 of 3 replicates, 10.0 min, about 18 min left"
    assert benchmark_run.progress(some, some, 600).endswith("about 0 min left")


def test_renders_are_taken_over_once_from_the_same_seed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("all-seed1", "all-seed2", "shots1-seed2")]
    for folder in folders[:2]:
        write_text_atomic(folder / "data/raw/gear/a.png", folder.name)
        write_text_atomic(folder / "data/raw/manifest.csv", "")
    (folders[2] / "data").mkdir(parents=True)
    take_over(folders[2], folders)
    assert (folders[2] / "data/raw/gear/a.png").read_text() == "all-seed2"
    assert not (folders[2] / "data/raw/manifest.csv").exists()  # the stage writes it when all is there
    (folders[2] / "data/raw/gear/a.png").write_text("own")
    take_over(folders[2], folders)
    assert (folders[2] / "data/raw/gear/a.png").read_text() == "own"


def test_two_benchmarks_do_not_share_a_work_folder(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(UserError, match="another benchmark is running"), _alone(tmp_path):
        pass
    with _alone(tmp_path):
        pass


# --- join and report --------------------------------------------------------------------------------------------------

PARTS = {
    "val": 6,
    "test": 12,
    "shifted": 12,
    "near_val": 6,
    "near_test": 10,
    "far_test": 10,
    "set_near_ood": 6,
    "set_id": 6,
}


def predicted(replicate: Replicate, same_test: bool) -> str:
    """Predictions as `evaluate` writes them: setups of growing skill; test pictures the same in all replicates or not."""
    rng = np.random.default_rng([replicate.seed, replicate.shots or 0])
    rows = []
    for skill, setup in enumerate(replicate.setups):
        for part, count in PARTS.items():
            if part.startswith("set_") and replicate.shots:
                continue
            for i in range(count if same_test else count - replicate.seed % 3):
                kind, strange = "ab"[i % 2], part.startswith(("near", "far"))
                own = "" if same_test and part.endswith("test") else f"{replicate.seed}-"
                right = rng.random() < 0.5 + 0.1 * skill
                name = f"variant{i % 5}" if strange else kind
                rows.append(
                    {
                        "setup": setup,
                        "seed": replicate.seed,
                        "part": part,
                        "path": f"data/{part}/{own}{i}.png",
                        "class_name": name,
                        "group": f"{own}{i // 2}",
                        "predicted": kind if right else "ba"[i % 2],
                        "knn_predicted": kind,
                        "confidence": rng.uniform(0.5, 1),
                        **{score: rng.normal(strange * (1 + skill)) for score in ood.SCORES},
                    }
                )
    return to_csv(rows)


def finished(work: Path, replicates: list[Replicate], same_test: bool = True) -> None:
    """Folders as they are when all stages have run."""
    for replicate in replicates:
        folder = work / replicate.folder
        text = predicted(replicate, same_test)
        write_text_atomic(folder / "reports/metrics/predictions.csv", text)
        write_json(
            folder / "reports/metrics/summary.json",
            {
                "data": {"manifests": {}, "training": {}, "parts": {"train": {"pictures": 32, "classes": 2}}},
                "choices": {},
                "predictions_sha256": "",
            },
        )
        for setup in replicate.setups:
            write_json(
                folder / f"models/supcon/{setup}/{replicate.seed}/run.json", {"run_id": f"{replicate.folder} {setup}"}
            )
        write_json(folder / SECONDS, {"stages": {"train@real-5": 30.0}, "total": 60.0, "git_commit": "c0"})
        for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
            write_text_atomic(folder / name, name)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reported")
    settings = loaded(root)
    replicates = plan.plan(settings, quick=False)
    finished(root / "work", replicates)
    join.report(settings, replicates, root / "work", root / "out", "small", "partsynth benchmark")
    return root


def test_recomputed_figures_are_the_reports(reported: Path) -> None:
    told = json.loads((reported / "out/small.json").read_text())
    path = reported / "out/small-predictions.csv.gz"
    again = json.loads(json.dumps(recompute(path)))
    for key in ("setups", "differences", "scores", "classes", "absent", "seeds", "order", "predictions_sha256"):
        assert again[key] == told[key], key
    for shots in ("1", "4"):
        assert again["few_shot"][shots]["setups"] == told["few_shot"][shots]["setups"]
        assert again["few_shot"][shots]["differences"] == told["few_shot"][shots]["differences"]
    assert told["predictions_sha256"] == sha256_file(path)
    result = CliRunner().invoke(app, ["evaluate", "--from-predictions", str(path)])
    assert result.exit_code == 0
    mean = told["differences"]["real_vae-real_id"]["accuracy_shifted"]["mean"]
    assert f"{100 * mean:+.1f} [" in result.stdout and "4 training pictures a class" in result.stdout


def test_joined_figures_are_those_of_each_replicate(reported: Path) -> None:
    told = json.loads((reported / "out/small.json").read_text())
    assert told["seeds"] == {"real": [3, 5, 9], "real_id": [3, 5, 9], "real_neg": [3, 5, 9], "real_vae": [3, 5]}
    for position, seed in enumerate((3, 5, 9)):
        path = reported / f"work/all-seed{seed}/reports/metrics/predictions.csv"
        alone = summarise(read_predictions(path), Evaluate(), None)
        for setup in alone["order"]:
            for metric, found in told["setups"][setup].items():
                assert found["values"][position] == alone["setups"][setup][metric]["values"][0], metric
            assert "accuracy_generated_id" not in told["setups"][setup]  # not all that a replicate measured is joined
    paired = told["differences"]["real_vae-real"]["accuracy_test"]["values"]
    a, b = (told["setups"][s]["accuracy_test"]["values"][:2] for s in ("real_vae", "real"))
    assert paired == pytest.approx(np.subtract(a, b), abs=2e-6)
    assert set(told["differences"]) == {"real_id-real", "real_neg-real_id", "real_vae-real", "real_vae-real_id"}


def test_replicates_may_have_test_pictures_of_their_own(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    replicates = plan.plan(settings, quick=False)[:3]
    finished(tmp_path / "work", replicates, same_test=False)
    join.report(settings, replicates, tmp_path / "work", tmp_path, "own", "partsynth benchmark")
    told = json.loads((tmp_path / "own.json").read_text())
    found = told["differences"]["real_id-real"]["accuracy_test"]
    assert len(found["values"]) == 3 and told["order"] == list(SETUPS)
    assert found["bootstrap"]["clusters"] == 5 + 6 + 6  # parts of seeds 5, 3, 9: their own in each
    assert recompute(tmp_path / "own-predictions.csv.gz")["setups"] == told["setups"]


def test_the_file_is_the_same_bytes_again(reported: Path) -> None:
    path = reported / "out/small-predictions.csv.gz"
    settings = loaded(reported)
    replicates = plan.plan(settings, quick=False)
    before = {p: p.read_bytes() for p in (reported / "out").iterdir()}
    join.report(settings, replicates, reported / "work", reported / "out", "small", "partsynth benchmark")
    assert {p: p.read_bytes() for p in (reported / "out").iterdir()} == before
    assert path.read_bytes()[4:8] == bytes(4)  # no time in the gzip header
    header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    columns = header.split(",")
    parts = [row.split(",")[columns.index("part")] for row in rows]
    assert set(parts) == {"val", "test", "shifted", "near_test", "far_test", "set_near_ood"}


def test_the_page_tells_what_the_numbers_say(reported: Path) -> None:
    text = (reported / "out/small.md").read_text()
    told = json.loads((reported / "out/small.json").read_text())
    main = [s for s in told["verdict"] if s["main"] and told["kinds"][s["setup"]] == "main"]
    assert {(s["setup"], s["base"], s["metric"]) for s in main} >= {
        ("real_id", "real", "accuracy_shifted"),
        ("real_neg", "real_id", "near_ood_auroc"),
    }
    assert all(f"**{s['text']}**" in text for s in main)
    assert "VAE round trips instead of ID augmentations changed shifted accuracy" in text
    for head in ("## Setups", "## Controls", "## Few shots"):
        assert head in text
    assert "## Ablations" not in text
    assert "7.0 minutes" not in text and "7 minutes of work" in text
    assert told["predictions_sha256"] in text and "OOD *validation*" in text
    row = next(line for line in text.splitlines() if line.startswith("| 16 | `real_id` | 3 |"))
    assert _cell(told["setups"]["real_id"]["accuracy_shifted"]) in row
    runs = told["benchmark"]["replicates"][3]["mlflow_runs"]
    assert runs == {"real": "shots1-seed5 real", "real_id": "shots1-seed5 real_id"}


def test_targets_are_met_or_missed_or_not_measured(reported: Path) -> None:
    told = json.loads((reported / "out/small.json").read_text())
    assert [target["met"] for target in told["targets"]] == [True, False, False]
    assert told["targets"][0]["difference"] == told["differences"]["real_id-real"]["accuracy_shifted"]
    rows = (reported / "out/small.md").read_text().partition("## Targets")[2].splitlines()[2:7]
    assert rows[2].endswith("| met |") and rows[3].endswith("| **missed** |")
    assert "| mean at least -100, lower end at least -900 |" in rows[2]
    settings, no_interval = loaded(reported), {"mean": 0.5, "low": None, "high": None, "values": [0.5]}
    one_seed = {"real_id-real": {"accuracy_shifted": no_interval, "accuracy_test": no_interval}}
    assert [target["met"] for target in join.targets(settings, one_seed)] == [None, None, None]


def test_a_stale_replicate_is_not_joined(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    replicates = plan.plan(settings, quick=True)
    finished(tmp_path, replicates)
    changed = [Replicate(r.folder, r.seed, r.shots, (*r.setups, "real_neg")) for r in replicates]
    with pytest.raises(UserError, match="other seeds or setups"):
        join.join(settings, changed, tmp_path)


def test_a_full_benchmarks_predictions_stay_below_five_megabytes() -> None:
    """By the bytes a row of the busiest parts takes: 80 models, 1,250 pictures."""
    import pandas as pd

    rng = np.random.default_rng(0)
    pictures = [(f"data/real/test/gear_t{i % 12}/part{i // 12:02}_cam0.png", f"gear_t{i % 12}") for i in range(60)]
    models = [(f"real_id_setup{m // 5}", m % 5) for m in range(80)]
    rows = [
        (s, n, 0, "real_id", "test", p, c, f"{c}/test/part", c, c, *rng.lognormal(size=8))
        for p, c in pictures
        for s, n in models
    ]
    columns = ["setup", "seed", "shots", "against", "part", "path", "class_name", "group", "predicted", "knn_predicted"]
    table = pd.DataFrame(rows, columns=[*columns, "confidence", *ood.SCORES])
    assert len(compressed(table)) / len(rows) * 80 * 1250 < 5e6


# --- for real ---------------------------------------------------------------------------------------------------------

TINY = {
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


@pytest.mark.slow
def test_a_small_benchmark_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicates and one of one shot: run, reported, and with nothing left to do the second time."""
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
    monkeypatch.setattr(benchmark_run, "presets", lambda: {"tiny": tmp_path / "tiny.yaml"})
    home = tmp_path / "home"
    home.mkdir()
    options = {"work": tmp_path / "work", "out": tmp_path / "out", "base": base, "root": home}
    benchmark_run.run("tiny", **options)

    told = json.loads((tmp_path / "out/tiny.json").read_text())
    assert told["seeds"] == {"real": [1, 2], "real_neg": [1, 2]}
    assert list(told["few_shot"]) == ["1"] and told["few_shot"]["1"]["order"] == ["real", "real_neg"]
    assert recompute(tmp_path / "out/tiny-predictions.csv.gz")["differences"] == told["differences"]
    lines = told["benchmark"]["replicates"]
    stages, shot = set(lines[0]["seconds"]["stages"]), lines[2]
    assert {"render", "tokens", "generate@near_ood", "train@real_neg-1", "evaluate"} <= stages
    assert "generate@unused" not in stages and not (tmp_path / "work/tiny/all-seed1/data/augmented/unused").exists()
    assert shot["pictures"]["train"] == shot["pictures"]["val"] == 2
    work = tmp_path / "work/tiny"
    rows = [read_manifest(work / f"all-seed{n}/data/real/manifest.csv", RealRecord) for n in (1, 2)]
    for split in ("train", "val", "test", "shifted"):
        first, second = ({r.sha256 for r in some if r.split == split} for some in rows)
        assert first and (first == second if split in ("test", "shifted") else not first & second)

    from partsynth.tracking.query import find_runs

    names = {line["folder"]: set(line["mlflow_runs"].values()) for line in lines}
    monkeypatch.setenv("PARTSYNTH_ROOT", os.fspath(home))
    stored = {
        e: {r.run_id for r in find_runs(home, experiment=e)} for e in ("partsynth-tiny", "partsynth-tiny-1-shots")
    }
    assert stored["partsynth-tiny"] == names["all-seed1"] | names["all-seed2"]
    assert stored["partsynth-tiny-1-shots"] == names["shots1-seed1"]
    monkeypatch.delenv("PARTSYNTH_ROOT")

    before = {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    locks = {p: p.stat().st_mtime_ns for p in work.glob("*/dvc.lock")}
    benchmark_run.run("tiny", **options)
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert {p: p.stat().st_mtime_ns for p in work.glob("*/dvc.lock")} == locks
