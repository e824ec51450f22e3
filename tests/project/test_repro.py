"""`partsynth repro`: what `dvc repro` makes, trainings side by side, and nothing left running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from partsynth.config.training import Train
from partsynth.errors import UserError
from partsynth.project import repro

# notes when it began and ended, then makes its output
STEP = """
import sys, time, pathlib
name, seconds, out = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
log = pathlib.Path("log") / name
log.write_text(f"{time.time()} ")
time.sleep(seconds)
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(name)
log.write_text(log.read_text() + str(time.time()))
"""
PARAMS = {
    "matrix": {"setups": ["real", "real_id"], "seeds": [0, 1]},
    "train": {"device": "cpu", "threads": 1},
    "select": {"real": {}, "real_id": {}},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """select@SETUP -> train@SETUP-SEED -> evaluate, of small scripts."""

    def cmd(name: str, seconds: float, out: str) -> str:
        return f"{sys.executable} step.py {name} {seconds} {out}"

    models = [f"models/{setup}/{seed}" for setup in ("real", "real_id") for seed in (0, 1)]
    graph = {
        "select": {
            "foreach": "${select}",
            "do": {"cmd": cmd("select-${key}", 0, "data/${key}"), "outs": ["data/${key}"]},
        },
        "train": {
            "matrix": {"setup": "${matrix.setups}", "seed": "${matrix.seeds}"},
            "cmd": cmd("train-${item.setup}-${item.seed}", 4, "models/${item.setup}/${item.seed}"),
            "deps": ["data/${item.setup}"],
            "outs": ["models/${item.setup}/${item.seed}"],
        },
        "evaluate": {"cmd": cmd("evaluate", 0, "summary"), "deps": models, "outs": ["summary"]},
    }
    (tmp_path / "log").mkdir()
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}, sort_keys=False))
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def times(project: Path) -> dict[str, tuple[float, float]]:
    found = {}
    for log in (project / "log").iterdir():
        began, ended = (float(word) for word in log.read_text().split())
        found[log.name] = (began, ended)
    return found


@pytest.mark.slow
def test_trainings_run_side_by_side_and_dvc_has_nothing_left_to_do(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repro.run(project, workers=2)
    took = times(project)
    trainings = [span for name, span in took.items() if name.startswith("train-")]
    together = sum(a[0] < b[1] and b[0] < a[1] for a in trainings for b in trainings) - len(trainings)
    assert len(trainings) == 4 and together >= 2  # of one pair at least, counted both ways
    assert max(span[1] for name, span in took.items() if name.startswith("select")) <= min(t[0] for t in trainings)
    assert took["evaluate"][0] >= max(t[1] for t in trainings)
    told = capfd.readouterr().out
    assert "[1] Running stage 'train@real-0'" in told and "[2] Running stage 'train@real-1'" in told
    status = [sys.executable, "-m", "dvc", "status"]
    assert "up to date" in subprocess.run(status, cwd=project, capture_output=True, text=True).stdout
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert len(locked) == 7  # no process wrote over what another one had recorded
    repro.run(project, workers=2)
    assert times(project) == took


@pytest.mark.slow
def test_a_training_that_fails_is_told_and_the_other_ends_too(project: Path) -> None:
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    graph["stages"]["train"]["cmd"] = f"{sys.executable} wait.py ${{item.seed}}"
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    (project / "wait.py").write_text(
        "import sys, time, pathlib\n"
        "if sys.argv[1] == '0': time.sleep(6); sys.exit(3)\n"
        "pathlib.Path('log/waits').write_text('')\n"
        "try: time.sleep(600)\n"
        "except KeyboardInterrupt: pathlib.Path('log/interrupted').write_text(''); raise\n"
    )
    began = time.monotonic()
    with pytest.raises(UserError, match="dvc repro failed"):
        repro.run(project, workers=2)
    assert time.monotonic() - began < 60
    assert (project / "log/waits").exists() and (project / "log/interrupted").exists()


@pytest.mark.parametrize(("threads", "cores", "found"), [(None, 8, 1), (1, 2, 2), (2, 8, 4), (8, 2, 1), (3, 2, 1)])
def test_as_many_as_the_threads_of_one_go_into_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, cores: int, found: int
) -> None:
    monkeypatch.setattr(repro.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(repro.psutil, "virtual_memory", lambda: type("M", (), {"available": 1 << 40}))
    places = repro._places(Train(device="cpu", threads=threads), None)
    assert places == [{}] * found


def test_each_of_several_gpus_has_trainings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = [place["CUDA_VISIBLE_DEVICES"] for place in repro._places(Train(), None)]
    assert devices == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in repro._places(Train(), 3)] == ["5", "7", "5"]


def test_where_no_project_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="partsynth init"):
        repro.run(tmp_path)
