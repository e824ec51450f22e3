"""What an audit's look-up costs over 10,000 manifest rows, a whole command, and what a run's stamp adds to a training.

    python benchmarks/audit_speed.py [--project DIR] [--rows 10000] [--repeats 5]

Everything stands beside a floor of the same machine and minute, and is allowed a multiple of it: a look-up beside
reading that manifest once with Python's csv module, the command `partsynth audit image` beside Python importing MLflow,
the stamp beside a bare MLflow run (created, one metric, ended) in the same store. ``--project``: a finished project,
which is copied and left alone; without one the tests' small project is made (a minute). The copy's manifest of the set
`id` grows to ``--rows`` rows. Exit code 1 where a median is over what is allowed.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import repository
from repository import ROOT

from partsynth.audit.image import trace_image
from partsynth.audit.source import trace_source
from partsynth.lineage.graph import read_lock
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import Layout
from partsynth.tracking import store as tracking_store
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import RunSpec, training_run

SET = "id"
LOOKUP, COMMAND, STAMP = 15, 1, 75  # times the floor that are allowed

Times = dict[str, list[float]]  # what was measured -> seconds of each repeat; the floor first


def timed(action: Callable[[], Any], repeats: int) -> list[float]:
    """After one more, which pays for start-up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times[1:]


def copied(project: Path | None, folder: Path) -> Path:
    """An independent copy of a finished project."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if project is not None:
        skip = shutil.ignore_patterns(".venv", ".uv", "raw")
        return Path(shutil.copytree(project, folder / "copy", symlinks=True, ignore=skip))
    sys.path.insert(0, os.fspath(ROOT / "tests"))
    from helpers import small_project

    return small_project.copy(small_project.finished(folder), folder / "copy")


def grow(root: Path, count: int) -> list[AugmentedRecord]:
    """Fill the set's manifest up to ``count`` rows; returns all of them."""
    path = Layout(root).augmentation_set(SET) / "manifest.csv"
    rows = read_augmented(path)
    folder = Path(rows[0].path).parent.as_posix()
    for i in range(count - len(rows)):
        change = {"path": f"{folder}/x{i:05d}.png", "sha256": sha256_bytes(b"%d" % i)}
        rows.append(rows[0].model_copy(update=change))
    path.unlink()
    write_manifest(path, rows, type(rows[0]))
    return rows


def lookups(root: Path, rows: list[AugmentedRecord], repeats: int) -> Times:
    """Three look-ups in a process that has made one before."""
    text = (Layout(root).augmentation_set(SET) / "manifest.csv").read_text()
    real = next(r for r in read_manifest(Layout(root).real_manifest, RealRecord) if r.split == "train")
    return {
        "floor: csv.DictReader over the manifest": timed(lambda: list(csv.DictReader(text.splitlines())), repeats),
        "audit image, a path of the set": timed(lambda: trace_image(root, rows[0].path), repeats),
        "audit image, the last row's sha256": timed(lambda: trace_image(root, rows[-1].sha256), repeats),
        "audit source, a training photograph": timed(lambda: trace_source(root, real.path), repeats),
    }


def commands(root: Path, rows: list[AugmentedRecord], repeats: int) -> Times:
    """Whole processes, from the shell's point of view."""

    def process(*arguments: str) -> Callable[[], Any]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, cwd=root, check=False, capture_output=True)

    return {
        "floor: python -c 'import mlflow'": timed(process("-c", "import mlflow"), repeats),
        "partsynth audit image, a path of the set": timed(
            process("-m", "partsynth.cli", "audit", "image", rows[0].path), repeats
        ),
    }


def stamps(root: Path, repeats: int) -> Times:
    """A run round an empty training, as DVC would start it."""
    stage = next(name for name in sorted(read_lock(root)) if name.startswith("train@real_id-"))
    os.environ["DVC_STAGE"] = stage
    spec = RunSpec(
        stage="train",
        setup="real_id",
        seed=int(stage.rpartition("-")[2]),
        fingerprint="benchmark",
        params={"train": {"steps": 1}},
        inputs=[DataInput("real", "data/real"), DataInput("selected-real_id", "data/selected/real_id.csv")],
    )

    def bare() -> None:
        store = tracking_store.client(root)
        run = store.create_run(tracking_store.experiment_id(root), run_name="bare")
        store.log_metric(run.info.run_id, "loss", 1.0)
        store.set_terminated(run.info.run_id)

    def stamped() -> None:
        with training_run(root, spec) as run:
            run.log_metrics({"loss": 1.0})

    return {"floor: a bare MLflow run": timed(bare, repeats), "the stamp of a training run": timed(stamped, repeats)}


def show(times: Times, limit: float) -> bool:
    """Print a table's rows; whether every median is within ``limit`` times the floor's."""
    floor = statistics.median(next(iter(times.values())))
    good = True
    for name, seconds in times.items():
        median = statistics.median(seconds)
        ratio = median / floor
        allowed = "" if name.startswith("floor") else f"<= {limit:g}" + ("" if ratio <= limit else ", **missed**")
        good &= ratio <= limit or not allowed
        print(f"| {name} | {1000 * median:.0f} | {1000 * max(seconds):.0f} | {ratio:.1f} | {allowed} |")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PARTSYNTH_ROOT"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        root = copied(options.project, Path(folder).resolve())
        rows = grow(root, options.rows)
        print(
            f"{len(rows)} rows, {options.repeats} repeats, commit {repository.commit()}, {platform.machine()} "
            f"x {len(os.sched_getaffinity(0))}\n"
        )
        print("| | median (ms) | slowest (ms) | times the floor | allowed |\n|---|---|---|---|---|")
        good = [
            show(lookups(root, rows, options.repeats), LOOKUP),
            show(commands(root, rows, options.repeats), COMMAND),
            show(stamps(root, options.repeats), STAMP),
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
