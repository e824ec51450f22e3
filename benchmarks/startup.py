"""Where a stage's time goes that is not its work: imports, reading what is there, MLflow; and what DVC adds.

    python benchmarks/startup.py PROJECT [--only train@real-0 ...] [--whole] [--cpu]

PROJECT is a finished project; it is copied to a temporary folder, without its environment and its raw files' history,
and left alone. Each stage runs there once as dvc.lock has it, in a fresh process, with its products in place: a run
that has nothing to do. With ``--whole`` its products are deleted first, so that it does all its work and every share
is one of the real stage. One line per stage:

* imports: inside import statements of the main thread, late ones too
* reading: hashes and fingerprints of files, manifests
* MLflow: round and inside a training's run, without imports and reading
* rest: everything else; without ``--whole`` nothing that a stage is there for

A last line is `dvc repro` where all is up to date: its process, and what it costs per stage. ``--cpu``: seconds of CPU
(user and system) instead of the clock's; fair where the machine does other things too, blind to waiting.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import importlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KINDS = ("imports", "reading", "mlflow")
WORKED_ON = 0.1  # share of a stage from which a kind is marked


class Spent:
    """Seconds by kind; inside one kind, time of another is the inner one's alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, dict.fromkeys(KINDS, 0.0)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        self._turn()
        self._stack.append(kind)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def _turn(self) -> None:
        now = self.clock()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def timed(self, kind: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread() or (self._stack and self._stack[-1] == kind):
                return work(*args, **kwargs)
            with self.on(kind):
                return work(*args, **kwargs)

        return wrapper


def run_stage(arguments: list[str], out: Path, cpu: bool) -> None:
    """The child: the stage's command in this process, its functions timed; writes what was spent to ``out``."""
    clock = time.process_time if cpu else time.perf_counter
    spent, start = Spent(time.thread_time if cpu else time.perf_counter), clock()
    before = 0.0 if not cpu else start  # of the interpreter's own start only CPU is known
    builtins.__import__ = spent.timed("imports", builtins.__import__)
    importlib.import_module = spent.timed("imports", importlib.import_module)

    from partsynth.records import manifest
    from partsynth.store import hashing, png

    for module, names in ((hashing, ("sha256_file",)), (png, ("_info",)), (manifest, ("read_manifest",))):
        for name in names:  # before anything else takes them by name
            setattr(module, name, spent.timed("reading", getattr(module, name)))
    if arguments[0] in ("train", "adapt"):
        _time_mlflow(spent)

    from partsynth.cli.main import main

    sys.argv = ["partsynth", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0) if not isinstance(end.code, str) else 1
    told = {"total": clock() - start + before, "code": code, **spent.seconds}
    out.write_text(json.dumps(told))
    sys.stdout.flush()


def _time_mlflow(spent: Spent) -> None:
    from partsynth.tracking import run

    for name in ("log_metrics", "log_artifact", "log_file", "log_model", "set_tags", "stop_watching"):
        setattr(run.TrainingRun, name, spent.timed("mlflow", getattr(run.TrainingRun, name)))
    original = run.training_run

    @contextmanager
    def training_run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        manager = original(*args, **kwargs)
        with spent.on("mlflow"):
            tracked = manager.__enter__()
        try:
            yield tracked
        except BaseException as error:
            with spent.on("mlflow"):
                if not manager.__exit__(type(error), error, error.__traceback__):
                    raise
        else:
            with spent.on("mlflow"):
                manager.__exit__(None, None, None)

    run.training_run = training_run  # type: ignore[assignment]


def children_seconds(cpu: bool) -> float:
    if not cpu:
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(root: Path, name: str, cmd: str, outs: list[Path], whole: bool, cpu: bool) -> dict[str, float]:
    """One stage in a fresh process; its seconds by kind, ``total`` from the process's start to its end."""
    if whole:
        for path in outs:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    arguments = shlex.split(cmd)
    assert arguments[0] == "partsynth", cmd
    told = root / ".work" / "startup.json"
    told.parent.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--child", str(told), *(["--cpu"] if cpu else []), "--", *arguments[1:]]
    start = children_seconds(cpu)
    done = subprocess.run(command, cwd=root, env=_environment(name), capture_output=True, text=True)
    total = children_seconds(cpu) - start
    if done.returncode or not told.is_file():
        raise SystemExit(f"{name}: {done.stderr.strip()[-2000:]}")
    spent = json.loads(told.read_text())
    told.unlink()
    return {**{kind: spent[kind] for kind in KINDS}, "total": total}


def _environment(stage: str) -> dict[str, str]:
    lost = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PARTSYNTH_ROOT")
    kept = {key: value for key, value in os.environ.items() if key not in lost}
    return kept | {"DVC_STAGE": stage, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def stages(root: Path) -> dict[str, tuple[str, list[Path]]]:
    """Stage -> its command and its outputs' paths, in the order that dvc.lock ran them; the frozen one is left out."""
    from partsynth.lineage.graph import read_lock

    return {
        name: (entry["cmd"], [root / out["path"] for out in entry.get("outs", [])])
        for name, entry in read_lock(root).items()
        if name != "base"
    }


def dvc_seconds(root: Path, cpu: bool) -> float:
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--quiet"]
    times = []
    for _ in range(2):  # the first one fills DVC's cache of hashes
        start = children_seconds(cpu)
        subprocess.run(command, cwd=root, check=True, capture_output=True, env=_environment(""))
        times.append(children_seconds(cpu) - start)
    return times[-1]


def share(part: float, whole: float) -> str:
    value = part / whole if whole else 0.0
    return f"{part:.2f} ({100 * value:.0f} %{' !' if value > WORKED_ON else ''})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="dvc.lock's names, such as train@real-0")
    parser.add_argument("--whole", action="store_true", help="delete each stage's products first")
    parser.add_argument("--cpu", action="store_true", help="seconds of CPU")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.child:
        raise AssertionError("handled before")
    if options.project is None or rest:
        parser.error("name a finished project")
    with tempfile.TemporaryDirectory() as folder:
        skip = shutil.ignore_patterns(".venv", ".uv", ".station*", "__pycache__")
        root = Path(shutil.copytree(options.project, Path(folder).resolve() / "copy", symlinks=True, ignore=skip))
        known = stages(root)
        if unknown := sorted(set(options.only or []) - set(known)):
            parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(known)}")
        print(f"{'CPU ' if options.cpu else ''}seconds of {'whole stages' if options.whole else 'runs without work'}\n")
        print("| stage | total | imports | reading | MLflow | rest |\n|---|---|---|---|---|---|")
        for name in options.only or known:
            spent = measure(root, name, *known[name], options.whole, options.cpu)
            total = spent["total"]
            rest_of = total - sum(spent[kind] for kind in KINDS)
            cells = " | ".join(share(spent[kind], total) for kind in KINDS)
            print(f"| {name} | {total:.2f} | {cells} | {rest_of:.2f} |", flush=True)
        if not options.only:
            seconds = dvc_seconds(root, options.cpu)
            print(f"\ndvc repro, all up to date: {seconds:.1f} s, {seconds / len(known):.2f} s per stage")
    return 0


if __name__ == "__main__":
    if "--child" in sys.argv:
        at = sys.argv.index("--child")
        run_stage(sys.argv[sys.argv.index("--") + 1 :], Path(sys.argv[at + 1]), "--cpu" in sys.argv[: at + 3])
        sys.exit(0)
    sys.exit(main())
