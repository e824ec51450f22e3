"""Projects of one's own: made from every preset, whole or not at all, checked, and true to their package's code."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from partsynth.config import load as config_load
from partsynth.errors import UserError
from partsynth.lineage.code import PACKAGE, code_hash, code_of
from partsynth.project import check, init
from partsynth.project.code import STAMP, require_current, upgrade
from partsynth.project.dvcfile import graph_for, project_dvc_yaml, with_data
from partsynth.project.shipped import checkout, presets

ROOT = Path(__file__).parents[2]
PRESETS = ("benchmark", "benchmark-photos", "demo", "folder", "mvip", "sd15-gpu")
RENDERED = ("benchmark", "demo")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `check` looks for in a base model; the model itself is not loaded here."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "model_index.json").write_text("{}")
    (folder / "reference_encoder").mkdir()
    (folder / "reference_encoder/config.json").write_text("{}")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for name in ("gear", "shaft"):
        (folder / name).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(folder / name / f"{n}.jpg")
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


# --- presets ----------------------------------------------------------------------------------------------------------


def test_the_presets_are_these() -> None:
    assert tuple(presets()) == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_whole(preset: str) -> None:
    loaded = config_load.load_all(ROOT / "presets" / f"{preset}.yaml")
    graph = yaml.safe_load(graph_for(loaded))["stages"]
    assert set(loaded.select) == set(graph["select"]["foreach"])
    for entry in graph["select"]["foreach"].values():
        if entry["manifest"].startswith("data/augmented/"):
            assert entry["manifest"].split("/")[2] in loaded.sets
    assert loaded.study.setup in loaded.select


def test_the_demo_preset_is_the_repositorys_own_parameters() -> None:
    untouched = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=ROOT, capture_output=True)
    if untouched.returncode:
        pytest.skip("params.yaml has changes of your own")
    assert config_load.load_all(ROOT / "params.yaml") == config_load.load_all(ROOT / "presets/demo.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_project_that_checks_and_dry_runs(
    preset: str, tmp_path: Path, photos: Path, base: Path
) -> None:
    own = tmp_path / "own"
    text = init.init(own, preset, None if preset in RENDERED else photos, base)
    assert f"cd {own}" in text
    assert run(own, "git", "status", "--porcelain") == ""
    told = run(own, "partsynth", "check")
    assert "params.yaml: in order" in told and "dvc.yaml: " in told

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


def test_a_projects_graph_is_the_repositorys(tmp_path: Path) -> None:
    text = (ROOT / "dvc.yaml").read_text()
    whole, own = (yaml.safe_load(t) for t in (text, project_dvc_yaml(text, renders=True, needs_base=True)))
    assert list(own["stages"]) == [s for s in whole["stages"] if s != "base"]
    assert own["plots"] == whole["plots"]
    for name, stage in own["stages"].items():
        ours, theirs = stage.get("do", stage), whole["stages"][name].get("do", whole["stages"][name])
        assert ours["cmd"] == theirs["cmd"] and ours["outs"] == theirs["outs"]
        assert ours["params"] == [{STAMP: [f"code.{name}"]}, *theirs["params"]]
        assert (
            ours.get("deps", []) == [d for d in theirs.get("deps", []) if not d.startswith("src/")] or name == "render"
        )


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "data", "text"),
    [
        ("foldr", "photos", "no preset 'foldr'; there are benchmark, benchmark-photos, demo, folder, mvip, sd15-gpu"),
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


@pytest.mark.parametrize("path", ["/a b/c", "/ä/#1", "/x: y", "/{curly}"])
def test_any_data_path_passes_through_yaml(path: str) -> None:
    text = with_data((ROOT / "presets/folder.yaml").read_text(), Path(path))
    assert yaml.safe_load(text)["ingest"]["path"] == path


# --- the package's code -----------------------------------------------------------------------------------------------


def recorded(folder: Path, **code: str) -> None:
    stages = {name: {"cmd": "true"} for name in ("ingest", "train")}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / STAMP).write_text(json.dumps({"partsynth": "0.0.1", "code": code}))


def test_a_stage_refuses_other_code_until_it_is_recorded(tmp_path: Path) -> None:
    recorded(tmp_path, ingest=code_hash("ingest"), train="old")
    require_current(tmp_path, "ingest")
    with pytest.raises(UserError, match="other code for the stage train.*partsynth upgrade"):
        require_current(tmp_path, "train")
    assert "will run again: train" in upgrade(tmp_path)
    require_current(tmp_path, "train")
    assert "is up to date" in upgrade(tmp_path)


def test_a_damaged_record_stops_and_can_be_made_anew(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / STAMP).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        require_current(tmp_path, "train")
    upgrade(tmp_path)
    require_current(tmp_path, "train")


def test_the_repository_itself_needs_no_record(tmp_path: Path) -> None:
    require_current(tmp_path, "train")
    with pytest.raises(UserError, match="partsynth init"):
        upgrade(tmp_path)


def test_a_stages_code_is_its_step_and_what_that_imports() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in code_of("ingest")}
    assert {"stages/ingest.py", "sources/mvip.py", "core/images/framing.py"} <= names
    assert not names & {"config/data.py", "records/rows.py", "tracking/run.py", "stages/render.py"}


# --- check ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_check_names_every_fault(tmp_path: Path, photos: Path, base: Path) -> None:
    own = tmp_path / "own"
    init.init(own, "folder", photos, base)
    text = (own / "params.yaml").read_text()
    text = text.replace("setup: real_id_negatives", "setup: reel").replace("models/base\n", "models/bass\n")
    (own / "params.yaml").write_text(text.replace("my photos", "my fotos"))
    with pytest.raises(UserError) as caught:
        check.check(own, own / "params.yaml")
    for part in (
        "study.setup: no 'reel'; select has real",
        "there is no folder models/bass",
        "my fotos and no stage writes it (ingest)",
    ):
        assert part in str(caught.value)
    (own / "dvc.yaml").write_text((own / "dvc.yaml").read_text().replace("foreach: ${sets}", "foreach: ${setz}"))
    with pytest.raises(UserError, match="dvc.yaml: .*setz"):
        check.check(own, own / "params.yaml")
