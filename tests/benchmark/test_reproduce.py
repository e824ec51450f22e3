"""`dvc repro` in a replicate: timed, and stopped with the benchmark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from partsynth.benchmark import reproduce
from partsynth.benchmark.plan import SECONDS
from partsynth.benchmark.reproduce import Clock


def test_stages_are_timed_from_what_dvc_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 13.5, 20.0, 24.0])  # a stage's end reads the clock, then the next one's begin
    monkeypatch.setattr(reproduce.time, "monotonic", lambda: next(now))
    clock = Clock()
    for line in (
        "Running stage 'ingest':",
        "> partsynth",
        "Running stage 'generate@id':",
        "Stage 'train@a-0' is cached",
    ):
        clock.read(line)
    assert clock.stop(whole=True) == {"ingest": 3.5, "generate@id": 4.0}


def test_a_stage_that_was_killed_has_no_time() -> None:
    clock = Clock()
    clock.read("Running stage 'ingest':")
    clock.read("Running stage 'tokens':")
    assert set(clock.stop(whole=False)) == {"ingest"}
    assert set(clock.stop(whole=True)) == {"ingest", "tokens"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_benchmark_stops_what_it_started(tmp_path: Path, workers: int) -> None:
    """SIGTERM while a stage runs: it is interrupted, its time not kept, and nothing goes on in the background."""
    (tmp_path / "stage.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntry: time.sleep(600)\n"
        "except KeyboardInterrupt: open('interrupted', 'w'); raise\n"
    )
    graph = {"stages": {"evaluate": {"cmd": f"{sys.executable} stage.py"}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph))
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    folders = [tmp_path, tmp_path / "other"][:workers]
    if workers == 2:
        shutil.copytree(tmp_path, tmp_path / "other", ignore=shutil.ignore_patterns("other"))
    code = (
        "from pathlib import Path; from partsynth.benchmark.reproduce import Running, reproduce; import os\n"
        "from partsynth.benchmark.plan import Replicate\n"
        "from partsynth.benchmark.run import each\n"
        "from partsynth.store.process import stoppable\n"
        "running, some = Running(), [Replicate(name, 0, None, ()) for name in ('.', 'other')]\n"
        "def one(r): reproduce(Path(r.folder), 0.0, dict(os.environ), running)\n"
        f"with stoppable(): each(some, one, {workers}, running)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if all((folder / "pid").is_file() and (folder / "pid").read_text() for folder in folders):
                break
            time.sleep(0.1)
        stages = [int((folder / "pid").read_text()) for folder in folders]
        driver.terminate()
        assert driver.wait(60) != 0
    finally:
        driver.kill()
    for folder, stage in zip(folders, stages, strict=True):
        assert (folder / "interrupted").is_file() and not (folder / SECONDS).exists()
        with pytest.raises(ProcessLookupError):
            os.kill(stage, 0)
