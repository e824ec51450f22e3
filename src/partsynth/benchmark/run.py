"""Replicates of the whole pipeline, several side by side: `partsynth benchmark`.

A replicate is a DVC project of its own in the work folder, made from a preset: its seed redraws training and validation
images, splits, tokens, sets and initialisation, while rendered test images are the same in all (render.test_seed).
DVC decides what is still good, so a stopped benchmark goes on where it was. All replicates share one DVC cache and one
MLflow store. Every figure of the report is computed from the joined predictions of single images.

On CPU each replicate has one thread, however many run: the last bits of what is generated and trained depend on the
number of threads, and two trainings of one thread take less time than two of two, one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from partsynth.benchmark.plan import Replicate, plan
from partsynth.benchmark.project import Preset, prepare, read_preset, shared_cache, take_over, take_over_features
from partsynth.benchmark.report import report, report_again
from partsynth.benchmark.reproduce import is_done, reproduce
from partsynth.errors import UserError
from partsynth.evaluation.predictions import read_predictions
from partsynth.lineage.git import home
from partsynth.project.dvc_process import Running, each
from partsynth.project.findings import Findings
from partsynth.project.given import Photographs
from partsynth.project.photographs import look
from partsynth.store.layout import MANIFEST, RAW, Layout
from partsynth.store.process import cores, stoppable

WORK, OUT = Path(".work/benchmark"), Path("reports")
MEMORY = 4 << 30  # bytes that a replicate may need


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What of a preset is asked for, and of which photographs."""

    preset: str
    quick: bool = False  # few replicates of few setups, as the preset says
    main: bool = False  # the main setups of the whole replicates alone; a run without it adds the rest to them
    photographs: Photographs = field(default_factory=Photographs)

    @property
    def stem(self) -> str:
        """Of the files that are written."""
        return f"{self.preset}-quick" if self.quick else self.preset

    @property
    def command(self) -> str:
        """That asks for the same."""
        chosen = [option for option, given in (("--quick", self.quick), ("--main", self.main)) if given]
        told = [word for pair in self.photographs.options for word in pair]
        return shlex.join(["partsynth", "benchmark", "--preset", self.preset, *chosen, *told])


def run(
    asked: Asked,
    *,
    work: Path = WORK,
    out: Path = OUT,
    base: Path | None = None,
    root: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run what is missing of a preset's replicates, then write ``out``/<preset>.{json,md,png} and the predictions.

    Parameters
    ----------
    base : a base model, where the package lies outside its repository
    work : where the replicates' folders lie
    root : of the repository whose MLflow store takes the runs; None = the current folder
    workers : replicates side by side; None = one on a machine with a GPU, else as ``side_by_side`` says

    Raises
    ------
    UserError
        for a preset without a benchmark, faults of the preset or of the photographs, a work folder in use, and where a
        replicate's pipeline fails (what it had finished is kept).
    """
    from partsynth.core import devices

    preset = read_preset(asked.preset, asked.photographs, base)
    if asked.photographs.data is not None:
        refuse_unusable(preset)
    store = home((root or Path.cwd()).resolve())
    replicates, work = plan(preset.params, asked.quick, asked.main), work.resolve() / asked.preset
    work.mkdir(parents=True, exist_ok=True)
    done: list[Replicate] = []
    began, running, one_at_a_time, rendering = time.monotonic(), Running(), threading.Lock(), threading.Lock()
    on_gpu = devices.pick("auto") == "cuda"
    workers = min(workers or (1 if on_gpu else side_by_side()), len(replicates))
    threads = {} if on_gpu else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def replicated(replicate: Replicate) -> None:
        folder, started = work / replicate.folder, time.monotonic()
        place = threads | environment(store, work, asked.preset, replicate)
        prefix = "  " if workers == 1 else f"  {replicate.folder}: "
        with one_at_a_time:
            told = f"[{replicates.index(replicate) + 1}/{len(replicates)}] {replicate.folder}"
            print(f"benchmark: {told}, setups {', '.join(replicate.setups)}", flush=True)
            prepare(folder, preset, replicate, shared_cache(store, work))
            if preset.params.ingest.source != "rendered":
                take_over_features(folder, [work / r.folder for r in done])
        if preset.params.ingest.source == "rendered" and not (folder / RAW / MANIFEST).is_file():
            with rendering:  # test images are alike in all: whoever is first makes them, on all cores, and others wait
                started = time.monotonic()
                take_over(folder, sorted(path for path in work.iterdir() if path.is_dir()))
                reproduce(folder, started, place, running, prefix, target="render")
            started = time.monotonic()
        reproduce(folder, started, place, running, prefix)
        done.append(replicate)
        print(f"benchmark: {progress(replicates, done, time.monotonic() - began)}", flush=True)

    with alone(work), stoppable():
        each(replicates, replicated, workers, running)
    return report(preset.params, replicates, work, out, asked.stem, asked.command)


def refuse_unusable(preset: Preset) -> None:
    """Say what lies in the folders of photographs.

    Raises
    ------
    UserError
        with all that ingest would stop at for its name or place, before any replicate is made.
    """
    found = Findings()
    look(Path.cwd(), preset.params, found)
    if found.faults:
        raise UserError(f"the preset {preset.name} cannot be run on these photographs:\n  " + "\n  ".join(found.faults))
    for line in found.in_order:
        print(f"benchmark: {line}", flush=True)


def so_far(asked: Asked, *, work: Path = WORK, out: Path = OUT) -> Path:
    """Write the report of the replicates that are done, of a run that goes on or was stopped; returns the page.

    One that was done with fewer setups (``Asked.main``) and is being extended counts with those that it has.

    Raises
    ------
    UserError
        as ``read_preset``, and where no replicate with all training images is done.
    """
    params, work = read_preset(asked.preset, asked.photographs).params, work.resolve() / asked.preset
    planned = plan(params, asked.quick, asked.main)
    done = [_with_what_is_there(replicate, work) for replicate in planned if is_done(work / replicate.folder)]
    if not any(replicate.shots is None for replicate in done):
        raise UserError(f"{work} has no replicate that is done: start {asked.command}")
    return report(params, done, work, out, asked.stem, asked.command, planned=len(planned))


def _with_what_is_there(replicate: Replicate, work: Path) -> Replicate:
    there = set(read_predictions(Layout(work / replicate.folder).predictions).setup)
    return replace(replicate, setups=tuple(setup for setup in replicate.setups if setup in there))


def again(asked: Asked, *, out: Path = OUT) -> Path:
    """Write a finished run's figures, picture and page anew from its predictions.

    Raises
    ------
    UserError
        as ``read_preset`` and ``report_again``.
    """
    return report_again(read_preset(asked.preset, asked.photographs).params, out, asked.stem)


def progress(replicates: Sequence[Replicate], done: Sequence[Replicate], seconds: float) -> str:
    """Time taken and time left; what comes before a replicate's trainings costs about as much as six of them."""

    def weight(some: Sequence[Replicate]) -> int:
        return sum(6 + len(r.setups) for r in some)

    left = seconds * (weight(replicates) - weight(done)) / weight(done)
    return f"{len(done)} of {len(replicates)} replicates, {seconds / 60:.1f} min, about {left / 60:.0f} min left"


def side_by_side() -> int:
    """Replicates that a machine without a GPU runs at once: one per core, and per ``MEMORY`` of what is free."""
    return max(1, min(cores(), psutil.virtual_memory().available // MEMORY))


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Inside, no other benchmark runs in ``work``.

    Raises
    ------
    UserError
        where one runs already.
    """
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another benchmark is running in {work}: wait for it, or name another --work") from None
        yield


def environment(store: Path, work: Path, preset: str, replicate: Replicate) -> dict[str, str]:
    """One MLflow store and experiment; one place for bytecode, as a stage that compiles its libraries takes longer."""
    shots = "" if replicate.shots is None else f"-{replicate.shots}-shots"
    left_out = ("DVC_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return (
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        | kept
        | {
            "PYTHONPYCACHEPREFIX": os.fspath(work / "pycache"),
            "PARTSYNTH_ROOT": os.fspath(store),
            "MLFLOW_EXPERIMENT_NAME": f"partsynth-{preset}{shots}",
            "PATH": os.pathsep.join([os.fspath(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "DVC_NO_ANALYTICS": "1",
        }
    )
