"""Projects of one's own: made from every preset, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from partsynth.config import load as config_load
from partsynth.errors import UserError
from partsynth.project import init
from partsynth.project.code import STAMP
from partsynth.project.shipped import checkout

ROOT = Path(__file__).parents[2]
PRESETS = ("benchmark", "benchmark-photos", "demo", "folder", "mvip", "sd15-gpu")
RENDERED = ("benchmark", "demo")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_project_that_checks_and_dry_runs(
    preset: str, tmp_path: Path, photos: Path, base: Path
) -> None:
    own = tmp_path / "own"
    text = init.init(own, preset, None if preset in RENDERED else photos, base)
    assert f"cd {own}" in text
    assert run(own, "git", "status", "--porcelain") == ""
    if preset == "sd15-gpu" and not torch.cuda.is_available():  # it asks for a GPU
        done = subprocess.run(["partsynth", "check"], cwd=own, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "diffusion.device, reference.device, train.device: device is cuda, but torch sees no" in done.stderr
    else:
        told = run(own, "partsynth", "check")
        assert "params.yaml: in order" in told and "dvc.yaml: " in told and "MLflow: sqlite:///" in told
        assert not (own / "mlflow.db").exists()

    loaded = config_load.load_all(own / "params.yaml")
    if preset not in RENDERED:
        assert loaded.ingest.path == os.fspath(photos.resolve())
    assert loaded.model_copy(update={"ingest": None}) == config_load.load_all(
        ROOT / "presets" / f"{preset}.yaml"
    ).model_copy(update={"ingest": None})

    graph = yaml.safe_load((own / "dvc.yaml").read_text())["stages"]
    assert "base" not in graph
    assert ("render" in graph) == (preset in RENDERED)
    assert "src/" not in (own / "dvc.yaml").read_text()
    assert ("models/base" in (own / "dvc.yaml").read_text()) == (preset != "sd15-gpu")
    assert (own / "models/base.dvc").exists() == (preset != "sd15-gpu")
    assert json.loads((own / STAMP).read_text())["code"].keys() == graph.keys()

    dry = run(own, "dvc", "repro", "--dry", "--force")
    stages = re.findall(r"Running stage '([^']*)'", dry)
    each_set = len(loaded.sets) * len({"calibrate", "generate", "quality"} & graph.keys())
    trainings = len(loaded.matrix.setups) * len(loaded.matrix.seeds)
    assert len(stages) == len(set(stages)) == (preset in RENDERED) + 2 + each_set + len(loaded.select) + trainings + 2
    for name in ("ingest", "generate@near_ood", "select@real", "train@real_id_negatives-0", "report"):
        assert f"Running stage '{name}'" in dry
    assert f'--raw "{loaded.ingest.path}"' in dry


@pytest.mark.parametrize(
    ("preset", "data", "text"),
    [
        ("foldr", "photos", f"no preset 'foldr', did you mean folder; there are {', '.join(PRESETS)}"),
        ("folder", None, "needs --data"),
        ("folder", "nowhere", "no such folder"),
        ("folder", "empty", "the folder is empty"),
        ("demo", "photos", "leave --data out"),
    ],
)
def test_init_refuses_and_writes_nothing(
    tmp_path: Path, photos: Path, base: Path, preset: str, data: str | None, text: str
) -> None:
    (tmp_path / "empty").mkdir()
    folder = {"photos": photos, None: None}.get(data, tmp_path / str(data))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=re.escape(text)):
        init.init(tmp_path / "own", preset, folder, base)
    assert sorted(tmp_path.rglob("*")) == before


def test_init_tells_all_faults_at_once(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(UserError) as caught:
        init.init(tmp_path / "used", "folder", tmp_path / "nowhere", tmp_path / "used")
    for part in ("is not empty", "no such folder", "holds no model"):
        assert part in str(caught.value)


def test_without_a_checkout_the_base_model_must_be_named(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages/partsynth"
    (installed / "shipped").mkdir(parents=True)
    (installed / "shipped/presets").symlink_to(ROOT / "presets")
    monkeypatch.setattr("partsynth.project.shipped.PACKAGE", installed)
    assert checkout() is None
    with pytest.raises(UserError, match="--base"):
        init.init(tmp_path / "own", "folder", photos)


def test_a_failure_on_the_way_leaves_no_folder(
    tmp_path: Path, photos: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("dvc failed")

    monkeypatch.setattr(init, "_dvc", fail)
    with pytest.raises(UserError, match="dvc failed"):
        init.init(tmp_path / "own", "folder", photos, base)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my photos"]


@pytest.mark.slow
def test_a_project_made_under_a_cache_of_links_is_whole(
    tmp_path: Path, photos: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links made before the project has its place would dangle."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user/config").write_text("[cache]\n    type = symlink\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", os.fspath(tmp_path / "user"))
    own = tmp_path / "own"
    init.init(own, "folder", photos, base)
    assert all(path.exists() for path in (own / "models/base").rglob("*"))
    assert (own / "models/base/model_index.json").read_bytes() == (base / "model_index.json").read_bytes()
    assert "params.yaml: in order" in run(own, "partsynth", "check")
