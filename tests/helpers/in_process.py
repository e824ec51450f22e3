"""DVC and the stages that it starts, in this process: without the seconds of imports that each process takes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import runpy
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

OUTSIDE = ("MLFLOW_", "DVC_", "PARTSYNTH_", "GIT_")  # variables that a shell of one's own would not have


def outside() -> dict[str, str]:
    return {n: value for n, value in os.environ.items() if not n.startswith(OUTSIDE)} | {"DVC_NO_ANALYTICS": "1"}


def _set(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ |= variables


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within it these are all variables; what is set within is undone."""
    before = dict(os.environ)
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def run(arguments: list[str], folder: Path) -> int:
    """A command line, of partsynth or of ``python FILE``, as if in a process of its own; its exit status."""
    program, *rest = arguments
    before, sys.argv = sys.argv, [program, *rest]
    try:
        with contextlib.chdir(folder):
            if program == sys.executable:
                sys.argv = rest
                runpy.run_path(os.fspath(folder / rest[0]), run_name="__main__")
            else:
                from partsynth.cli.main import app

                app()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        sys.argv = before
    return 0


@contextlib.contextmanager
def stages() -> Iterator[list[str]]:
    """Within it, stages that DVC starts run in this process; the names of those that ran.

    Commands that are neither partsynth's nor a Python file's get a process as always.
    """
    from dvc.logger import set_loggers_level
    from dvc.stage import run as stage_run
    from dvc.stage.exceptions import StageCmdFailedError

    start, ran = stage_run._run, []

    def here(executable: str | None, cmd: str, **kwargs: Any) -> None:
        ran.append(kwargs["env"]["DVC_STAGE"])
        arguments = shlex.split(cmd)
        if arguments[0] != "partsynth" and not (arguments[0] == sys.executable and arguments[1].endswith(".py")):
            start(executable, cmd, **kwargs)
            return
        with environment(kwargs["env"]), set_loggers_level(logging.INFO):  # which a stage may change
            code = run(arguments, Path(kwargs["cwd"]))
        if code:
            raise StageCmdFailedError(cmd, code)

    stage_run._run = here
    try:
        yield ran
    finally:
        stage_run._run = start


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str
    stages: list[str]  # those that ran, in order


def dvc(root: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Done:
    """A command of DVC in the folder ``root``; ``variables``: all of its environment, else that of a fresh shell."""
    from dvc.cli import main
    from dvc.logger import set_loggers_level

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as within:
        within.enter_context(contextlib.chdir(root))
        within.enter_context(environment(outside() if variables is None else variables))
        within.enter_context(contextlib.redirect_stdout(out))
        within.enter_context(contextlib.redirect_stderr(errors))
        within.enter_context(set_loggers_level(logging.INFO))  # the package's own calls of DVC silence it
        for handler in logging.getLogger("dvc").handlers:  # they keep the streams of the time of DVC's import
            if isinstance(handler, logging.StreamHandler):
                within.callback(setattr, handler, "stream", handler.stream)  # which may be closed: a test's own
                handler.stream = errors if handler.level >= logging.WARNING else out
        ran = within.enter_context(stages())
        code = main(list(arguments))
    return Done(code, out.getvalue(), errors.getvalue(), ran)


class Process:
    """In place of a ``subprocess.Popen`` of ``python -m dvc``: it has run when it is there."""

    def __init__(self, command: list[str], *, cwd: Path, env: Mapping[str, str], **_: Any) -> None:
        assert command[:3] == [sys.executable, "-m", "dvc"]
        self.done = dvc(cwd, *command[3:], variables=env)
        self.stdout = io.StringIO(self.done.stdout + self.done.stderr)

    def wait(self) -> int:
        return self.done.code
