"""Replicates of the whole pipeline, and what they say together: `partsynth benchmark`.

A replicate is a DVC project of its own in the work folder, made from a preset: its seed redraws training and validation
pictures, splits, tokens, sets and initialisation, while rendered test pictures are the same in all (render.test_seed).
DVC decides what is still good, so a stopped benchmark goes on where it was. All replicates share one DVC cache and one
MLflow store. Every figure of the report is computed from the joined per-picture predictions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from partsynth.config.load import load_all, read_yaml
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.project import init
from partsynth.project.code import STAMP, upgrade
from partsynth.project.dvcfile import graph_for
from partsynth.project.shipped import checkout, presets
from partsynth.store.files import read_json, write_json, write_text_atomic
from partsynth.store.process import stoppable

if TYPE_CHECKING:
    pass
from partsynth.benchmark.join import report
from partsynth.benchmark.plan import SECONDS, TARGET, Replicate, needed, parameters, plan

IDENTITY = ("-c", "user.name=partsynth", "-c", "user.email=partsynth@localhost")  # of commits in replicates
CODE = ("src", "presets", "dvc.yaml", "models/base")  # of the repository: what a benchmark's figures depend on


def run(
    preset: str,
    quick: bool = False,
    data: Path | None = None,
    work: Path = Path(".work/benchmark"),
    out: Path = Path("reports"),
    base: Path | None = None,
    root: Path | None = None,
) -> Path:
    """Run what is missing of a preset's replicates, then write ``out``/<preset>.{json,md,png} and the predictions.

    Raises
    ------
    UserError
        for a preset without a benchmark, faults of the preset or of ``data``, a work folder in use, and where a
        replicate's pipeline fails (what it had finished is kept).
    """
    root, known = (root or Path.cwd()).resolve(), presets()
    if preset not in known:
        raise UserError(f"no preset {preset!r}; there are {', '.join(known)}")
    params, raw = load_all(known[preset]), read_yaml(known[preset])
    if not params.benchmark.setups:
        there = [name for name, path in known.items() if read_yaml(path).get("benchmark")]
        raise UserError(f"the preset {preset} has no section benchmark; these have: {', '.join(there) or 'none'}")
    replicates, work = plan(params, quick), work.resolve() / preset
    work.mkdir(parents=True, exist_ok=True)
    home, done, began = lineage_git.home(root), [], time.monotonic()
    with _alone(work), stoppable():
        for number, replicate in enumerate(replicates, start=1):
            folder = work / replicate.folder
            print(f"benchmark: [{number}/{len(replicates)}] {replicate.folder}, setups {', '.join(replicate.setups)}")
            started = time.monotonic()
            prepare(folder, preset, raw, params, replicate, data, base, shared_cache(home, work))
            if params.ingest.source == "rendered":
                take_over(folder, sorted(path for path in work.iterdir() if path.is_dir()))
            reproduce(folder, started, _environment(home, work, preset, replicate))
            done.append(replicate)
            print(f"benchmark: {progress(replicates, done, time.monotonic() - began)}", flush=True)
    command = ["partsynth", "benchmark", "--preset", preset, *(["--quick"] if quick else [])]
    command += ["--data", os.fspath(data)] if data is not None else []
    return report(params, replicates, work, out, preset + ("-quick" if quick else ""), shlex.join(command))


def progress(replicates: Sequence[Replicate], done: Sequence[Replicate], seconds: float) -> str:
    """Time taken and time left; what comes before a replicate's trainings costs about as much as six of them."""

    def weight(some: Sequence[Replicate]) -> int:
        return sum(6 + len(r.setups) for r in some)

    left = seconds * (weight(replicates) - weight(done)) / weight(done)
    return f"{len(done)} of {len(replicates)} replicates, {seconds / 60:.1f} min, about {left / 60:.0f} min left"


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another benchmark is running in {work}: wait for it, or name another --work") from None
        yield


def shared_cache(home: Path, work: Path) -> Path:
    """The DVC cache of the repository whose MLflow store is used, so that audits there find a replicate's data."""
    if (home / ".dvc").is_dir():
        asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=home, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip():
            return home / asked.stdout.strip()
    return work / "cache"


def prepare(
    folder: Path,
    preset: str,
    raw: dict[str, Any],
    params: Params,
    replicate: Replicate,
    data: Path | None,
    base: Path | None,
    cache: Path,
) -> None:
    """The replicate's project as the preset now wants it: made where it is missing, else brought up to date."""
    if not folder.exists():
        init.init(folder, preset, data, base, cache)
    upgrade(folder)  # stages whose code changed run again
    tables, sets = needed(params, replicate.setups)
    told = f"# Replicate {replicate.folder} of the preset {preset}, written by `partsynth benchmark`.\n"
    texts = {
        "params.yaml": told + yaml.safe_dump(parameters(raw, params, replicate, data), sort_keys=False),
        "dvc.yaml": graph_for(params, tables),
    }
    for name, text in texts.items():
        if (folder / name).read_text() != text:
            write_text_atomic(folder / name, text)
    load_all(folder / "params.yaml")
    for stale in (folder / "data/augmented").glob("*/manifest.csv"):
        if stale.parent.name not in sets:  # a set that the preset no longer has
            shutil.rmtree(stale.parent)
    git = ["git", *IDENTITY]
    subprocess.run([*git, "add", *texts, STAMP], cwd=folder, check=True, capture_output=True)
    subprocess.run([*git, "commit", "--quiet", "-m", told.strip("# \n")], cwd=folder, capture_output=True)


def take_over(folder: Path, others: Sequence[Path]) -> None:
    """Copy an earlier replicate's renders, that of the same seed first: the stage keeps those that fit and makes the
    rest."""
    raw = folder / "data/raw"
    finished = [other for other in others if other != folder and (other / "data/raw/manifest.csv").is_file()]
    if raw.exists() or not finished:
        return
    seed = folder.name.rpartition("-")[2]
    source = next((other for other in finished if other.name.endswith(f"-{seed}")), finished[0])
    draft = raw.with_name("raw.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source / "data/raw", draft, ignore=shutil.ignore_patterns("manifest.csv"))
    os.replace(draft, raw)


def _environment(home: Path, work: Path, preset: str, replicate: Replicate) -> dict[str, str]:
    """One MLflow store and experiment, and one place for bytecode: a stage that compiles its libraries takes 10 s more."""
    shots = "" if replicate.shots is None else f"-{replicate.shots}-shots"
    left_out = ("DVC_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {
        "PYTHONPYCACHEPREFIX": os.fspath(work / "pycache"),
        "PARTSYNTH_ROOT": os.fspath(home),
        "MLFLOW_EXPERIMENT_NAME": f"partsynth-{preset}{shots}",
        "PATH": os.pathsep.join([os.fspath(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def reproduce(folder: Path, started: float, environment: dict[str, str]) -> None:
    """`dvc repro` in a replicate, its output passed on, the seconds of each stage that ran kept in ``SECONDS``.

    Raises
    ------
    UserError
        where it fails; the times of what was finished are kept.
    """
    path = folder / SECONDS
    known = read_json(path) if path.is_file() else {"stages": {}, "total": 0.0}
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", TARGET],
        cwd=folder,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_interruptible,
    )
    clock, code = Clock(), None
    try:
        for line in process.stdout:
            clock.tell(line)
            if line.strip():
                print(f"  {line.rstrip()}", flush=True)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        ran = clock.stop(whole=code == 0)
        if ran:
            total = known["total"] + time.monotonic() - started
            write_json(path, {"stages": known["stages"] | ran, "total": total, "git_commit": commit()})
    if code:
        raise UserError(
            f"dvc repro failed in {folder} (its output is above). Mend it and start the benchmark again: it goes on "
            "where it was"
        )


def _interruptible() -> None:
    """A shell's background jobs ignore SIGINT, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen) -> None:
    """Interrupt DVC and the stage it runs, which keeps what it can go on from; kill them where they do not end."""
    for number, patience in ((signal.SIGINT, 30), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


class Clock:
    """Seconds of each stage, from the lines that `dvc repro` prints."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None

    def tell(self, line: str) -> None:
        found = re.match(r"(Running stage|Stage) '([^']+)'", line)
        if found:
            self._end()
            if found.group(1) == "Running stage":
                self._running = found.group(2), time.monotonic()

    def stop(self, whole: bool) -> dict[str, float]:
        """All stages that ended; the last one only where the whole command succeeded."""
        if whole:
            self._end()
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}

    def _end(self) -> None:
        if self._running:
            self.seconds[self._running[0]] = time.monotonic() - self._running[1]
        self._running = None


def commit() -> str:
    """The commit that the package runs from, with ``-dirty`` where code or presets have uncommitted changes."""
    root = checkout()
    named = lineage_git.git(root, "rev-parse", "HEAD") if root else None
    if named is None:
        return "unknown (an installed package)"
    dirty = lineage_git.git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return named.decode().strip() + ("-dirty" if dirty else "")
