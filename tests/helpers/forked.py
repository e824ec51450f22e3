"""The command line in processes of their own, without the seconds that imports take: they are forked from this one.

A forked command is a process like any other: it has its own session, can be killed, and leaves what killed ones leave.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.mirrored import Mark, mark

WARM = (
    *(f"partsynth.stages.{s}" for s in ("ingest", "tokens", "calibrate", "generate", "quality", "select", "train")),
    *("partsynth.stages.evaluate", "partsynth.stages.report", "partsynth.study.workers", "partsynth.serving.export"),
    *("partsynth.audit.verify", "partsynth.evaluation.champion", "partsynth.project.check", "torch", "torchvision"),
    *("diffusers", "transformers", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "great_expectations", "optuna"),
    *("matplotlib.pyplot", "sklearn.linear_model", "accelerate", "partsynth.cli.main", "onnx", "onnxruntime", "crepes"),
)


def warm(names: Iterable[str] = WARM) -> None:
    """Import modules that commands will want; what cannot be imported here is left to them."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


@dataclass
class Running:
    """A command that was started."""

    pid: int
    log: Path
    begun: float

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, minus the signal's number where one killed it; None where it is still running then."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            done, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if end is not None and time.monotonic() >= end:
                return None
            time.sleep(0.005)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def forked(
    arguments: Sequence[str], cwd: Path, log: Path, *, before: Callable[[], None] | None = None, modules: str = ""
) -> Running:
    """Start a command in a child of this process; ``before`` runs in the child first.

    With ``modules`` the child writes the names of the modules that it imported to that file.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Running(pid, log, time.monotonic())
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(cwd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["partsynth", *arguments]
        if before is not None:
            before()
        code = _main()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            if modules:
                Path(modules).write_text("\n".join(sys.modules))
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _main() -> int:
    from partsynth.cli.main import main

    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def cold(arguments: Sequence[str], cwd: Path, log: Path, program: Sequence[str] = ()) -> Running:
    """Start a command as a shell does."""
    bin = Path(sys.executable).parent
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*(program or (os.fspath(bin / "partsynth"),)), *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=os.environ | {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"},
        )
    process.returncode = 0  # waited for by its pid
    return Running(process.pid, log, time.monotonic())


def session_of(pid: int) -> list[int]:
    """The processes of a session that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == pid and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


SKIPPED = (".git", ".dvc/cache", ".dvc/tmp", "mlartifacts", "mlflow.db", ".work/benchmark")


def listing(
    root: Path, skipped: Sequence[str] = SKIPPED, known: dict[tuple[str, Mark], str] | None = None
) -> dict[str, str]:
    """Every file below a project by its hash, links by where they point. Of a run's record all but the run's id.

    ``known`` : hashes of before, by name and mark; those that are new are added.
    """
    found = {}
    known = {} if known is None else known
    for folder, folders, files in os.walk(root):
        within = Path(folder).relative_to(root)
        folders[:] = sorted(f for f in folders if (within / f).as_posix() not in skipped)
        for name in files:
            path, key = Path(folder, name), (within / name).as_posix()
            if key in skipped:
                continue
            if path.is_symlink():
                found[key] = f"-> {os.readlink(path)}"
            else:
                where = key, mark(path)
                if where not in known:
                    known[where] = _digest(key, path)
                found[key] = known[where]
    return found


def _digest(key: str, path: Path) -> str:
    data = path.read_bytes()
    if key.startswith("models/runs/"):
        with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):  # a damaged one
            record = json.loads(data)
            record.pop("run_id")
            data = json.dumps(record, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()
