"""What an audit's look-up costs over 10,000 manifest rows, and what a run's stamp adds to a training.

    python benchmarks/audit_speed.py [--project DIR] [--rows 10000] [--repeats 5]

Both stand beside a floor of the same machine and minute: the look-up beside reading that manifest once with Python's
csv module, the stamp beside a bare MLflow run (created, one metric, ended) in the same store. ``--project``: a finished
project, which is copied and left alone; without one the tests' small project is made (a minute). The copy's manifest of
the set `id` grows to ``--rows`` rows. Exit code 1 where the slowest look-up takes 1 s or the stamp 2 s.
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

ROOT = Path(__file__).parents[1]
MANIFEST = "data/augmented/id/manifest.csv"
LOOKUP, STAMP = 1.0, 2.0  # seconds allowed


def timed(action: Callable[[], Any], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def copied(project: Path | None, folder: Path) -> Path:
    """An independent copy of a finished project."""
    sys.path[:0] = [str(ROOT / "tests")]
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if project is None:
        import small_project

        return small_project.copy(small_project.finished(folder), folder / "copy")
    skip = shutil.ignore_patterns(".venv", ".uv", "raw")
    return Path(shutil.copytree(project, folder / "copy", symlinks=True, ignore=skip))


def grow(root: Path, count: int) -> list[Any]:
    """Fill the set's manifest up to ``count`` rows; returns all of them."""
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest, write_manifest
    from partsynth.store.hashing import sha256_bytes

    path = root / MANIFEST
    rows = read_manifest(path, SdeditRecord)
    for i in range(count - len(rows)):
        name = f"data/augmented/id/{rows[0].class_name}/x{i:05d}.png"
        rows.append(rows[0].model_copy(update={"path": name, "sha256": sha256_bytes(b"%d" % i)}))
    path.unlink()
    write_manifest(path, rows, SdeditRecord)
    return rows


def lookups(root: Path, rows: list[Any], repeats: int) -> dict[str, list[float]]:
    """Seconds of the floor and of three look-ups, after one that pays for start-up."""
    from partsynth.audit import image as audit_image
    from partsynth.audit import source as audit_source
    from partsynth.augmentation.methods.sdedit import SdeditRecord
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord

    text = (root / MANIFEST).read_text()
    real = next(r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "train")
    audit_image.image(root, real.path)
    assert isinstance(rows[-1], SdeditRecord)
    return {
        "floor: csv.DictReader over the manifest": timed(lambda: list(csv.DictReader(text.splitlines())), repeats),
        "audit image, a path of the set": timed(lambda: audit_image.image(root, rows[0].path), repeats),
        "audit image, the last row's sha256": timed(lambda: audit_image.image(root, rows[-1].sha256), repeats),
        "audit source, a training photograph": timed(lambda: audit_source.source(root, real.path), repeats),
    }


def stamps(root: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of the floor and of a run round an empty training, as DVC would start it, after one each."""
    from partsynth.lineage.graph import read_lock
    from partsynth.tracking import store as tracking_store
    from partsynth.tracking.inputs import DataInput
    from partsynth.tracking.run import RunSpec, training_run
    from partsynth.tracking.store import experiment_id

    stage = next(name for name in sorted(read_lock(root)) if name.startswith("train@real_id-"))
    _, _, seed = stage.rpartition("-")
    os.environ["DVC_STAGE"] = stage
    spec = RunSpec(
        stage="train",
        setup="real_id",
        seed=int(seed),
        fingerprint="benchmark",
        params={"train": {"steps": 1}},
        inputs=[DataInput("real", "data/real"), DataInput("selected-real_id", "data/selected/real_id.csv")],
    )

    def bare() -> None:
        store = tracking_store.client(root)
        run = store.create_run(experiment_id(root), run_name="bare")
        store.log_metric(run.info.run_id, "loss", 1.0)
        store.set_terminated(run.info.run_id)

    def stamped() -> None:
        with training_run(root, spec) as run:
            run.log_metrics({"loss": 1.0})

    bare()
    stamped()
    return {"floor: a bare MLflow run": timed(bare, repeats), "the stamp of a training run": timed(stamped, repeats)}


def show(times: dict[str, list[float]], limit: float) -> bool:
    floor = statistics.median(next(iter(times.values())))
    good = True
    for name, found in times.items():
        middle, within = statistics.median(found), max(found) < limit
        allowed = "" if name.startswith("floor") else f"< {limit:g} s" + ("" if within else ", **missed**")
        good &= within or not allowed
        print(f"| {name} | {1000 * middle:.0f} | {1000 * max(found):.0f} | {middle / floor:.1f} | {allowed} |")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PARTSYNTH_ROOT"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        root = copied(options.project, Path(folder).resolve())
        rows = grow(root, options.rows)
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        print(
            f"{len(rows)} rows, {options.repeats} repeats, commit {commit.stdout.strip()}, {platform.machine()} "
            f"x {len(os.sched_getaffinity(0))}\n"
        )
        print("| | median (ms) | slowest (ms) | times the floor | allowed |\n|---|---|---|---|---|")
        found = show(lookups(root, rows, options.repeats), LOOKUP)
        stamped = show(stamps(root, options.repeats), STAMP)
    return 0 if found and stamped else 1


if __name__ == "__main__":
    sys.exit(main())
