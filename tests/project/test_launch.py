"""The launcher that params.yaml names: its processes end as one command does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import cli, launched, tiny_sd

from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config.generation import Generate
from partsynth.store.hashing import sha256_file

PARAMS = """\
diffusion: {device: cpu, model: models/base, size: 64}
generate: {steps: 2, batch_size: 4}
sets: {id: {strength: 0.5, variants: 6}}
"""
FOLDERS = ["--real", "data/real", "--tokens", "models/tokens", "--strengths", "data/strengths/id.json"]
GENERATE = ["generate", "--set", "id", *FOLDERS, "--out", "data/augmented/id"]


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no-such-launcher -n 2", "launch begins with 'no-such-launcher'"),
        ("accelerate 'launch", "No closing quotation"),
    ],
)
def test_a_launcher_that_is_none_is_a_fault(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f'{PARAMS}launch: "{line}"\n')
    code, _, errors = cli.run(*GENERATE)
    assert code == 1 and errors.startswith("partsynth: params.yaml: launch") and told in errors


def test_a_stage_that_several_processes_cannot_do_together_is_not_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("launch: no-such-launcher\nrender: {size: 0}\n")
    code, _, errors = cli.run("render", "--out", "data/raw")
    assert code == 1 and "render.size" in errors


def test_the_launcher_s_own_status_is_the_command_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDS_WITH", "7")
    Path("params.yaml").write_text(f"launch: {sys.executable} -c 'exit($ENDS_WITH)'\n{PARAMS}")
    assert cli.run(*GENERATE)[0] == 7
    assert not list(Path(".work/launch").glob(".*"))


@pytest.mark.slow
def test_a_fault_of_one_process_ends_all_with_one_sentence(tmp_path: Path) -> None:
    srun = tmp_path / "srun"  # which says who each process is as Slurm does
    helpers = Path(launched.__file__).parents[1]
    lines = [f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(helpers)!r})"]
    lines += ["from helpers import launched", "sys.exit(launched.launch(2, sys.argv[1:], slurm=True))"]
    srun.write_text("\n".join(lines))
    srun.chmod(0o755)
    (tmp_path / "params.yaml").write_text(f"{PARAMS}launch: {srun} {' '.join(launched.CLI)}\n")
    done = subprocess.run(
        [sys.executable, *launched.CLI, *GENERATE], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("partsynth: data/real/manifest.csv is missing")


@pytest.mark.slow
def test_a_process_is_killed_and_accelerate_goes_on(tmp_path: Path) -> None:
    """Two processes of which one is killed, then `launch` in params.yaml: the bytes of one process."""
    root = tmp_path / "project"
    tiny_sd.build(root / "models/base")
    tiny_sd.write_real(root)
    tiny_sd.learn_tokens(root)
    (root / "params.yaml").write_text(PARAMS)
    alone = Path(shutil.copytree(root, tmp_path / "alone"))
    made = root / "data/augmented/id"
    started = launched.start(root, 2, [*launched.CLI, *GENERATE], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list((made / "gear_t24").glob("*.png")) and time.monotonic() < deadline:
        assert started[1].poll() is None
        time.sleep(0.01)
    started[1].kill()
    ended = launched.wait(started)
    assert ended.codes == [1, -9]
    assert (
        ended.errors[0] == "partsynth: process 2 of 2 was killed, and all ended: start the stage again, it goes on "
        "where it was\n"
    )
    assert not (made / "manifest.csv").exists()

    line = f"{sys.executable} -m accelerate.commands.launch --multi_gpu --num_processes 2 -m partsynth.cli"
    (root / "params.yaml").write_text(f"{PARAMS}launch: {line}\n")
    done = subprocess.run(
        [sys.executable, *launched.CLI, *GENERATE], cwd=root, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("36 images") == 1 and "36 images, 0 of them kept" not in done.stdout
    tiny_sd.make_set(alone, "id", Generate(steps=2, batch_size=4), SdeditSet(strength=0.5, variants=6))
    assert hashes(made) == hashes(alone / "data/augmented/id")
