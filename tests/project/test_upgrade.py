"""`partsynth upgrade`: what stages run is recorded, in a project by partsynth.json, in the repository by dvc.yaml."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import in_process

from partsynth.errors import UserError
from partsynth.lineage.code import code_hash, code_paths
from partsynth.project.check import check
from partsynth.project.code import STAMP, changed_stages, require_current
from partsynth.project.upgrade import outdated, upgrade

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).parent / "old_project"  # made by `partsynth init` at commit f5688eb; its dvc.yaml is graph.yaml
STAGES = ("ingest", "tokens", "calibrate", "generate", "quality", "select", "train", "evaluate", "report")


# --- a project --------------------------------------------------------------------------------------------------------


def recorded(folder: Path, **code: str) -> None:
    stages = {name: {"cmd": "true"} for name in ("ingest", "train", "own")}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / STAMP).write_text(json.dumps({"partsynth": "0.0.1", "code": code}))


def test_a_stage_goes_on_once_its_code_is_recorded(tmp_path: Path) -> None:
    recorded(tmp_path, ingest=code_hash("ingest"), train="old")
    assert "will run again: train" in upgrade(tmp_path)
    require_current(tmp_path, "train")
    assert json.loads((tmp_path / STAMP).read_text())["code"].keys() == {"ingest", "train"}  # not a stage of one's own
    assert "is up to date" in upgrade(tmp_path)


def test_a_damaged_record_is_made_anew(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / STAMP).write_text("{")
    upgrade(tmp_path)
    require_current(tmp_path, "train")


def test_elsewhere_it_says_where_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="partsynth init"):
        upgrade(tmp_path)


# --- a project made by an older partsynth -----------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path, photos: Path, base: Path) -> Path:
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    (folder / "graph.yaml").rename(folder / "dvc.yaml")
    shutil.copytree(photos, folder / "data/raw")
    shutil.copytree(base, folder / "models/base")
    (folder / "reports/studies").mkdir(parents=True)
    assert in_process.dvc(folder, "init", "--no-scm", "--quiet").code == 0
    return folder


def test_an_old_project_names_its_changed_stages_and_is_recorded(old: Path) -> None:
    texts = {name: (old / name).read_text() for name in ("params.yaml", "dvc.yaml")}
    assert changed_stages(old) == sorted(STAGES)
    with pytest.raises(UserError) as caught:
        check(old, old / "params.yaml")
    assert str(caught.value) == (
        f"other code installed than recorded for {', '.join(sorted(STAGES))}: `partsynth upgrade` records it"
    )
    told = upgrade(old)
    assert all(stage in told for stage in STAGES)
    assert "dvc.yaml: 25 stages, in order" in check(old, old / "params.yaml")
    assert texts == {name: (old / name).read_text() for name in texts}


@pytest.mark.slow
def test_dvc_goes_on_in_an_old_project(old: Path) -> None:
    text = (old / "params.yaml").read_text()
    few = text.replace("  on_bad: fail\n", "  on_bad: fail\n  min_per_class: 1\n").replace(
        "on_duplicate: fail", "on_duplicate: warn"
    )
    (old / "params.yaml").write_text(few)
    refused = in_process.dvc(old, "repro", "ingest")
    assert refused.code and "other code for the stage ingest" in refused.stderr
    assert in_process.run(["partsynth", "upgrade"], old) == 0
    done = in_process.dvc(old, "repro", "ingest")
    assert done.code == 0, done.stderr
    assert (old / "data/real/manifest.csv").is_file()
    lock = yaml.safe_load((old / "dvc.lock").read_text())["stages"]["ingest"]
    assert lock["params"][STAMP]["code.ingest"] == code_hash("ingest")


def test_photographs_that_params_yaml_names_are_watched(old: Path) -> None:
    """An old project may have had the shifted folder in params.yaml alone."""
    upgrade(old)
    (old / "params.yaml").write_text(
        (old / "params.yaml").read_text().replace("ingest:\n", "ingest:\n  shifted: there\n")
    )
    shutil.copytree(old / "data/raw", old / "there")
    with pytest.raises(
        UserError, match=r"dvc\.yaml does not name ingest\.shifted as params\.yaml does: `partsynth upgrade`"
    ):
        check(old, old / "params.yaml")
    assert "dvc.yaml: ingest depends on ingest.shifted as params.yaml has it" in upgrade(old)
    deps = yaml.safe_load((old / "dvc.yaml").read_text())["stages"]["ingest"]["deps"]
    assert "${ingest.shifted}" in deps
    assert any("6 shifted" in line for line in check(old, old / "params.yaml"))
    assert "up to date" in upgrade(old) and "depends on" not in upgrade(old)


# --- the repository ---------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src/partsynth").mkdir(parents=True)
    (tmp_path / "src/partsynth/__init__.py").touch()
    (tmp_path / "pyproject.toml").touch()
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    train = graph["stages"]["train"]
    train["deps"] = [*(dep for dep in train["deps"] if not dep.startswith("src/")), "src/partsynth/old.py"]
    (tmp_path / "dvc.yaml").write_text("# kept\n" + yaml.safe_dump(graph, sort_keys=False))
    monkeypatch.setattr("partsynth.project.upgrade.checkout", lambda: tmp_path)
    return tmp_path


def test_in_the_repository_dvc_yaml_names_the_code_of_each_stage(repository: Path) -> None:
    assert "train" in outdated(repository)
    told = upgrade(repository)
    assert "  train: - src/partsynth/old.py" in told.splitlines()
    assert "  train: + src/partsynth/stages/train.py" in told.splitlines()
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        deps = stage.get("do", stage).get("deps", [])
        wanted = [] if stage.get("frozen") else [f"src/partsynth/{path}" for path in code_paths(name)]
        assert [dep for dep in deps if dep.startswith("src/")] == wanted
    assert stages["train"]["deps"][0] == "data/real"
    assert (repository / "dvc.yaml").read_text().startswith("# kept\n")
    assert outdated(repository) == []
    assert "nothing to change" in upgrade(repository)


def test_another_copy_of_the_repository_is_not_given_this_ones_code(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partsynth.project.upgrade.checkout", lambda: ROOT)
    with pytest.raises(UserError, match="is not the repository that runs"):
        upgrade(repository)
    assert outdated(repository) == []


def test_an_old_project_gets_stage_adapt_once_its_params_ask_for_it(old: Path) -> None:
    upgrade(old)
    params = old / "params.yaml"
    params.write_text(params.read_text().replace("diffusion:\n", "diffusion:\n  adapt: {}\n"))
    with pytest.raises(UserError, match=r"dvc\.yaml has no stage adapt: `partsynth upgrade` writes it"):
        check(old, params)
    assert "stage adapt" in upgrade(old)
    stages = yaml.safe_load((old / "dvc.yaml").read_text())["stages"]
    assert list(stages)[:3] == ["ingest", "adapt", "tokens"]
    assert stages["adapt"]["deps"] == ["data/real", "models/base"]
    for name in ("tokens", "calibrate", "generate", "report"):
        assert "models/adapted" in stages[name].get("do", stages[name])["deps"]
    assert "--adapted models/adapted --out" in stages["report"]["cmd"]
    assert "dvc.yaml: 26 stages, in order" in check(old, params)
    require_current(old, "adapt")
    assert "stage adapt" not in upgrade(old)
