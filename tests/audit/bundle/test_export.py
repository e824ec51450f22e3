"""One run as a folder or zip: what it holds, the same bytes each time, whole or not at all."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import small_project
from helpers.cli import run as command

from partsynth.audit.bundle.export import SUMS, Inputs, export
from partsynth.errors import UserError
from partsynth.store.hashing import sha256_bytes, sha256_file

RUN = "real_id_negatives-seed0"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_holds_the_run_and_is_checked_without_partsynth(whole: Path, carded: Path) -> None:
    names = set(contents(whole))
    assert {
        *(
            "README.md",
            "SHA256SUMS",
            "bom.cdx.json",
            "model.pub",
            "model.sig",
            "model_card.md",
            "run.json",
            "verify.py",
        ),
        *("croissant-real.json", "croissant-ood.json", "croissant-id.json", "croissant-near_ood.json"),
        *("data/card.yaml", "data/real/manifest.csv", "data/augmented/id/manifest.csv", "data/quality/near_ood.csv"),
        *("data/selected/real_id_negatives.csv", "model/encoder.safetensors", "models/tokens/gear_a.safetensors"),
        *("lineage/stages.json", "lineage/params.yaml", "requirements.lock", "data/real/train/gear_a/00.png"),
    } <= names
    assert not [name for name in names if name.startswith("models/base")]  # told of by hash
    for name in ("data/augmented/id/manifest.csv", "requirements.lock", "data/real/val/gear_b/01.png"):
        assert (whole / name).read_bytes() == (carded / name).read_bytes()
    about = json.loads((whole / "run.json").read_text())
    assert about["run"]["git_commit"] == small_project.command(carded, "git", "rev-parse", "HEAD").stdout.strip()
    assert about["weights"] == {"model/encoder.safetensors": sha256_file(whole / "model/encoder.safetensors")}
    done = subprocess.run([sys.executable, "-I", "-S", whole / "verify.py"], capture_output=True, text=True)
    rows = len(list(csv.DictReader((whole / "data/selected/real_id_negatives.csv").open())))
    assert (done.returncode, done.stderr) == (0, "")
    wanted = f"{len(names)} files, 24 real images, 32 generated images, {rows} rows of the training table"
    assert done.stdout == f"in order: {wanted}\n"
    assert not (whole / "__pycache__").exists()


def test_the_model_card_and_the_readme_say_what_is_known_and_what_is_not(whole: Path, carded: Path, tmp_path) -> None:
    card = (whole / "model_card.md").read_text()
    for told in (
        "our line",
        "CC-BY-4.0",
        "to sort gears",
        "no rust",
        "| generated, set id | 16 |",
        "| real, train | 8 |",
    ):
        assert told in card
    assert "predictions: the workspace's evaluation is not of these weights" in (whole / "README.md").read_text()
    assert "The images are included" in (whole / "README.md").read_text()
    root = small_project.copy(carded, tmp_path / "project")
    (root / "data/card.yaml").write_text("origin: our line\n")
    result = export(Inputs(root=root, out=tmp_path / "export", run=RUN))
    assert "data card: licence is not stated" in result.data["absent"]
    text = (tmp_path / "export/README.md").read_text()
    assert "data card: licence is not stated" in text and "not signed: no key was given" in text
    assert "not stated in data/card.yaml" in (tmp_path / "export/bom.cdx.json").read_text()
    assert not list((tmp_path / "export").rglob("*.png")) and "manifests name each by path and sha256" in text


def test_the_same_run_is_the_same_bytes(carded: Path, tmp_path: Path) -> None:
    for name in ("a/export", "b/export"):
        export(Inputs(root=carded, out=tmp_path / name, run=RUN))
    assert contents(tmp_path / "a/export") == contents(tmp_path / "b/export")
    for name in ("a.zip", "b.zip"):
        result = export(Inputs(root=carded, out=tmp_path / name, run=RUN))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == contents(tmp_path / "a/export")
        assert result.data["sha256_of_SHA256SUMS"] == sha256_bytes(archive.read(SUMS))


def test_the_champion_is_the_default_and_the_command_line_tells_what_it_did(carded, tmp_path, monkeypatch) -> None:
    root = small_project.copy(carded, tmp_path / "project")
    monkeypatch.chdir(root)
    code, _, err = command("audit", "export", "--out", "evidence.zip")
    assert code == 1 and "no run, alias or run name 'champion'" in err and not Path("evidence.zip").exists()
    code, out, _ = command("audit", "export", RUN, "--out", "evidence.zip", "--json")
    told = json.loads(out)
    assert code == 0 and told["ok"] and told["run"]["name"] == RUN and told["signed"].startswith("no")
    code, _, err = command("audit", "export", RUN, "--out", "evidence.zip")
    assert code == 1 and "exists: name a new file" in err


def test_nothing_is_written_where_something_is_missing(carded: Path, tmp_path: Path) -> None:
    root = small_project.copy(carded, tmp_path / "project")
    shutil.rmtree(root / ".dvc/cache")
    with pytest.raises(UserError, match="is missing from the cache"):
        export(Inputs(root=root, out=tmp_path / "out/export", run=RUN))
    assert list((tmp_path / "out").iterdir()) == []


def test_tables_that_leave_the_folder_are_not_written(carded: Path, tmp_path: Path, monkeypatch) -> None:
    from partsynth.audit.bundle import export as module

    gather = module.gather

    def forged(*arguments):
        found = gather(*arguments)
        found.files["data/../../escaped.csv"] = b"x"
        return found

    monkeypatch.setattr(module, "gather", forged)
    with pytest.raises(UserError, match="is not a relative path"):
        export(Inputs(root=carded, out=tmp_path / "export", run=RUN))
    assert not (tmp_path / "export").exists() and not (tmp_path / "escaped.csv").exists()


def test_a_clone_without_a_store_exports_from_the_runs_record(carded: Path, whole: Path, tmp_path: Path) -> None:
    """Of models whose config.json has the run's fingerprint, as the package's own training writes it."""
    root = small_project.copy(carded, tmp_path / "project")
    for name in root.glob("mlflow.db*"):
        name.unlink()
    folder = root / "models/supcon/real_id_negatives/0"
    with pytest.raises(UserError, match="neither in MLflow nor in the workspace"):
        export(Inputs(root=root, out=tmp_path / "export", run=RUN))
    config = json.loads((folder / "config.json").read_text())
    config["fingerprint"] = json.loads((folder / "run.json").read_text())["tags"]["fingerprint"]
    (folder / "config.json").write_text(json.dumps(config))
    result = export(Inputs(root=root, out=tmp_path / "export", run=RUN))
    assert result.data["run"]["stored"].endswith("run.json")
    made, before = contents(tmp_path / "export"), contents(whole)
    same = [name for name in made if made[name] == before.get(name)]
    assert {"bom.cdx.json", "lineage/stages.json", "lineage/params.yaml", "requirements.lock"} <= set(same)
    assert [name for name in made if name.startswith("data/") and name not in same] == []
    done = subprocess.run([sys.executable, tmp_path / "export/verify.py"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("in order: ")
