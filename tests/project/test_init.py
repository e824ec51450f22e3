"""Projects of one's own: made from every preset, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from helpers import cli, in_process

from partsynth.config import load as config_load
from partsynth.errors import UserError
from partsynth.project import init
from partsynth.project.code import STAMP
from partsynth.project.shipped import checkout, presets

ROOT = Path(__file__).parents[2]
PRESETS = tuple(presets())
RENDERED = ("benchmark", "benchmark-demo", "benchmark-development", "demo")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def checked(folder: Path) -> tuple[int, str, str]:
    """`partsynth check`: exit code, output, errors."""
    with contextlib.chdir(folder):
        return cli.run("check")


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_project_that_checks_and_dry_runs(
    preset: str, tmp_path: Path, photos: Path, base: Path, dvc_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in this process, but for one preset."""
    if preset == "folder":
        monkeypatch.undo()
    own = tmp_path / "own"
    text = init.init(own, preset, None if preset in RENDERED else photos, base)
    assert f"cd {own}" in text
    assert run(own, "git", "status", "--porcelain") == ""
    if preset == "sd15-gpu" and not torch.cuda.is_available():  # it asks for a GPU
        code, _, errors = checked(own)
        assert code == 1 and errors.count("\n") == 1
        assert "diffusion.device, reference.device, train.device: device is cuda, but torch sees no" in errors
    elif preset not in RENDERED and preset.startswith(("benchmark-", "mvip")):  # of classes that these photographs lack
        code, _, errors = checked(own)
        assert code == 1 and errors.startswith("partsynth: ingest"), errors
    else:
        told = run(own, "partsynth", "check") if preset == "folder" else checked(own)[1]
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

    whole = ("repro", "--dry", "--force")
    if preset == "folder":
        dry = run(own, "dvc", *whole)
    else:
        done = in_process.dvc(own, *whole)
        assert done.code == 0, done.stderr
        dry = done.stdout
    stages = re.findall(r"Running stage '([^']*)'", dry)
    each_set = len(loaded.sets) * len({"calibrate", "generate", "quality"} & graph.keys())
    trainings = len(loaded.matrix.setups) * len(loaded.matrix.seeds)
    assert len(stages) == len(set(stages)) == (preset in RENDERED) + 3 + each_set + len(loaded.select) + trainings + 2
    last_set, last_setup = [*loaded.sets][-1], loaded.matrix.setups[-1]
    for name in ("ingest", f"generate@{last_set}", "select@real", f"train@{last_setup}-0", "report"):
        assert f"Running stage '{name}'" in dry
    assert f'--raw "{loaded.ingest.path}"' in dry


@pytest.mark.parametrize(
    ("preset", "data", "text"),
    [
        ("foldr", "photos", f"no preset 'foldr', did you mean folder; there are {', '.join(PRESETS)}"),
        ("photographs", None, "needs --data"),
        ("photographs", "nowhere", "no such folder"),
        ("photographs", "empty", "the folder is empty"),
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
        init.init(tmp_path / "used", "photographs", tmp_path / "nowhere", tmp_path / "used")
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
        init.init(tmp_path / "own", "photographs", photos)


def test_a_failure_on_the_way_leaves_no_folder(
    tmp_path: Path, photos: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("dvc failed")

    monkeypatch.setattr(init, "_dvc", fail)
    with pytest.raises(UserError, match="dvc failed"):
        init.init(tmp_path / "own", "photographs", photos, base)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my photos"]


@pytest.mark.slow
def test_a_project_made_under_a_cache_of_links_is_whole(
    tmp_path: Path, photos: Path, base: Path, dvc_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links made before the project has its place would dangle."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user/config").write_text("[cache]\n    type = symlink\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", os.fspath(tmp_path / "user"))
    own = tmp_path / "own"
    init.init(own, "photographs", photos, base)
    assert all(path.exists() for path in (own / "models/base").rglob("*"))
    assert (own / "models/base/model_index.json").read_bytes() == (base / "model_index.json").read_bytes()
    assert "params.yaml: in order" in checked(own)[1]


def test_init_says_what_lies_in_the_folders(tmp_path: Path, photos: Path, base: Path, dvc_here: None) -> None:
    (tmp_path / "other/steel").mkdir(parents=True)
    shutil.copy(photos / "gear/0.jpg", tmp_path / "other/steel/0.jpg")
    own = tmp_path / "own"
    told = init.init(
        own,
        "photographs",
        photos,
        base,
        shifted=photos,
        far=tmp_path / "other",
        held_out=["nut"],
        group_pattern=r"(\d)\.jpg",
    )
    assert "2 classes, 6 photographs; 6 shifted; 1 far-OOD" in told
    assert "Mend first, dvc repro would stop: ingest: " in told and "'nut' is no class of the source" in told
    loaded = config_load.load_all(own / "params.yaml")
    assert loaded.ingest.shifted == os.fspath(photos.resolve()) and loaded.ingest.group_pattern == r"(\d)\.jpg"
    assert loaded.ood.holdout_classes == ["nut"] and loaded.ood.far == os.fspath((tmp_path / "other").resolve())
    deps = yaml.safe_load((own / "dvc.yaml").read_text())["stages"]["ingest"]["deps"]
    assert deps == ["${ingest.path}", "${ingest.shifted}", "${ood.far}"]


def test_a_project_within_a_git_repository_says_so(tmp_path: Path, photos: Path, base: Path, dvc_here: None) -> None:
    run(tmp_path, "git", "init", "-q")
    (tmp_path / ".gitignore").write_text("/left-out\n")
    told = init.init(tmp_path / "own", "photographs", photos, base)
    assert f"a git repository of its own within that of {tmp_path}" in told
    assert "within that of" not in init.init(tmp_path / "left-out", "photographs", photos, base)


def test_names_that_may_tell_the_spot_are_pointed_out(tmp_path: Path, base: Path, dvc_here: None) -> None:
    for spot in range(4):
        for n in range(3):
            for kind in ("gear", "nut"):
                place = tmp_path / f"photos/{kind}/part{spot}_{n}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
    told = init.init(tmp_path / "own", "photographs", tmp_path / "photos", base)
    assert "ingest.group_pattern: names as part0_0.jpg and part0_1.jpg look like several images of one part" in told
    assert "No class is held out" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "says"), [("core.hooksPath", "hooks", "no commits today"), ("commit.gpgsign", "true", "gpg")]
)
def test_where_git_does_not_commit_its_own_words_are_told(
    tmp_path: Path,
    photos: Path,
    base: Path,
    dvc_here: None,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    says: str,
) -> None:
    """A hook of the user's that refuses, or signing without a key: the project is whole all the same."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/pre-commit").write_text("#!/bin/sh\necho no commits today >&2; exit 1\n")
    (tmp_path / "hooks/pre-commit").chmod(0o755)
    for name, told in {"COUNT": "1", "KEY_0": setting, "VALUE_0": value.replace("hooks", f"{tmp_path}/hooks")}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", told)
    monkeypatch.setenv("GNUPGHOME", os.fspath(tmp_path / "hooks"))  # no keys there
    text = init.init(tmp_path / "own", "photographs", photos, base)
    assert "Nothing was committed, git says: " in text and says in text
    assert "git commit -m" in text
    assert (tmp_path / "own/dvc.yaml").is_file()
