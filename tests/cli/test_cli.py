"""The command line: it fits dvc.yaml, answers fast, and says in a sentence what a user can mend."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from partsynth.cli.main import app
from partsynth.config.base import Count, Fraction, Positive, Seed
from partsynth.config.words import type_text
from partsynth.config.params import Params
from partsynth.errors import UserError

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
COMMAND = typer.main.get_command(app)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_dvc_yaml_is_a_command_with_just_these_options(stage: str) -> None:
    words = shlex.split(re.sub(r"\$\{[^}]*\}", "0", STAGES[stage].get("do", STAGES[stage])["cmd"]))
    assert words[:2] == ["partsynth", stage]
    command = COMMAND.commands[stage]
    command.make_context(stage, words[2:])  # raises where an option is unknown, missing or of the wrong type
    needed = {option for p in command.params if p.required for option in p.opts}
    assert needed == {w for w in words if w.startswith("--")}


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "pandas", "mlflow", "dvc", "great_expectations", "diffusers", "yaml")
    code = (
        "import sys\nfrom partsynth.cli import main as cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass\n"
        f"print('LOADED', [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for stage in STAGES:
        assert stage in done.stdout


@pytest.mark.parametrize("path", [c for c in COMMAND.commands], ids=str)
def test_every_command_and_option_has_help(path: str) -> None:
    command = COMMAND.commands[path]
    for each in [command, *getattr(command, "commands", {}).values()]:
        assert each.help
        if each.name != "diff":
            assert all(getattr(p, "help", "") for p in each.params if p.name != "help"), each.name


# --- faults -----------------------------------------------------------------------------------------------------------


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("partsynth.project.check.check", fail)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("train.steps: should be a whole number"), 1, "partsynth: train.steps: should be a whole number"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x.png"), 1, "the disk is full (data/x.png)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), 1, "no permission to read or write data"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    raising(monkeypatch, error)
    exit_code, out, err = run("check")
    assert exit_code == code
    assert text in err
    assert "Traceback" not in err + out


def test_our_own_faults_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        run("check")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["generate", "--set", "nope", "--real", "r", "--tokens", "t", "--strengths", "s", "--out", "o"],
            "sets has no entry 'nope'; it has id",
        ),
        (["ingest", "--raw", "none", "--real", "r", "--ood", "o"], "none: no such folder"),
        (["summary"], "summary.json is missing"),
        (["check"], "ingest.source: should be 'rendered', 'mvip' or 'folder'"),
        (["upgrade"], "partsynth init"),
        (["study", "--trials", "3"], "ingest.source: should be"),
        (["audit", "verify"], "dvc.lock is missing"),
        (["params", "trane"], "there are render, ingest"),
        (["evaluate", "--from-predictions", "none.csv"], "none.csv"),
    ],
)
def test_a_new_users_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("sets: {id: {strength: 0.2}}\ningest: {source: photos}\n")
    if arguments[0] == "ingest":
        (tmp_path / "params.yaml").write_text("ingest: {source: folder}\n")
    code, out, err = run(*arguments)
    assert code == 1
    assert text in err
    assert "Traceback" not in err + out


@pytest.mark.slow
def test_a_full_disk_is_said_so_and_finished_work_is_kept(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        (tmp_path / "params.yaml").write_text(
            yaml.safe_dump({"render": {"size": 48, "samples": 4, "workers": 1, "classes": None}})
        )
        done = subprocess.run(
            ["partsynth", "render", "--out", disk / "raw"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 1
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (disk / "raw/manifest.csv").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


# --- what is printed --------------------------------------------------------------------------------------------------


def test_params_explains_every_key() -> None:
    code, out, _ = run("params")
    assert code == 0
    for section, field in Params.model_fields.items():
        assert section in out
        kind = field.annotation
        for name in getattr(kind, "model_fields", {}):
            assert name in out, f"{section}.{name}"
    assert "strength = (required)  (number 0 to 1, or list of: number 0 to 1, or auto)" in out
    assert "of the noise schedule: 0 = VAE round trip only" in out
    assert "one of warn, drop, fail" in out
    code, out, _ = run("params", "train")
    assert "temperature = 0.1" in out and "ingest" not in out


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Count, "whole number >= 1"),
        (Positive | None, "number > 0, or null"),
        (Seed, "whole number >= 0"),
        (list[Fraction], "list of: number 0 to 1"),
        (tuple[Fraction, Fraction], "[number 0 to 1, number 0 to 1]"),
        (bool, "true or false"),
        (dict[str, int], "mapping text -> whole number"),
    ],
)
def test_types_are_said_in_words(annotation: object, text: str) -> None:
    assert type_text(annotation) == text


def test_summary_prints_setups_differences_and_where_to_look(tmp_path: Path) -> None:
    figures = {"mean": 0.7123, "low": 0.68, "high": 0.74, "values": [0.7]}
    content = {
        "setups": {
            "real": {"accuracy_test": figures, "near_ood_auroc": {"mean": 0.7, "low": None, "high": None}},
            "real_id": {"accuracy_test": {**figures, "mean": 0.8}},
        },
        "differences": {"real_id-real": {"accuracy_test": {"mean": 0.0877, "low": -0.01, "high": 0.1}}},
        "verdict": [{"text": "ID augmentations changed test accuracy by +8.8 points: no evidence"}],
        "absent": {"far_ood_auroc": "no far-OOD pictures"},
    }
    (tmp_path / "s.json").write_text(json.dumps(content))
    code, out, _ = run("summary", "--metrics", os.fspath(tmp_path / "s.json"))
    assert code == 0
    for part in (
        "71.2",
        "(68.0 to 74.0)",
        "70.0",
        "80.0",
        "+8.8",
        "(-1.0 to +10.0)",
        "reports/index.html",
        "mlflow ui",
        "no evidence",
        "far_ood_auroc: absent",
    ):
        assert part in out
