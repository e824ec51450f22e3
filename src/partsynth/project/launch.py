"""Stages that several processes do together: started by the launcher that ``launch`` in params.yaml names."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from partsynth.config import load as config_load
from partsynth.errors import UserError
from partsynth.store import workers
from partsynth.store.drafts import draft_folder
from partsynth.store.layout import Layout
from partsynth.store.process import stoppable

SHARED = ("tokens", "calibrate", "generate", "quality", "evaluate")  # same bytes, however many processes
GRACE = 30.0  # seconds for a launcher to end its processes


def share(params: Path, arguments: Sequence[str]) -> int | None:
    """Join the other processes, where a launcher started this one; else start the launcher that params.yaml names.

    Parameters
    ----------
    arguments : of this command

    Returns
    -------
    The launcher's exit status, when it has done the command; None where this process is to do it.

    Raises
    ------
    UserError
        the first fault of one of the processes, or where there is no such launcher.
    """
    if workers.launched():
        workers.here()
        return None
    line = config_load.load("launch", params)
    return _run([*_command(line, params), *arguments]) if line else None


def _command(line: str, params: Path) -> list[str]:
    """The launcher's words; $NAMES in them are the environment's."""
    try:
        program, *words = [os.path.expandvars(word) for word in shlex.split(line)]
    except ValueError as error:
        raise UserError(f"{params}: launch: {error}: write it as on a command line") from None
    found = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
    if found is None:
        raise UserError(
            f"{params}: launch begins with {program!r}, which is no program here (accelerate, torchrun ...)"
        )
    return [found, *words]


def _run(command: list[str]) -> int:
    """The launcher's exit status. What it says of processes that ended by a fault is left out: the fault says more."""
    environment = dict(os.environ)
    if Path(command[0]).name == "srun":
        environment[workers.SRUN] = "1"
    with draft_folder(Layout(Path.cwd()).work / "launch") as folder:
        fault = folder.absolute() / "fault"
        with (
            stoppable(),
            subprocess.Popen(command, env=environment | {workers.FAULT: str(fault)}, stderr=subprocess.PIPE) as process,
        ):
            assert process.stderr is not None
            try:
                while told := os.read(process.stderr.fileno(), 1 << 16):
                    if not fault.exists():
                        sys.stderr.write(told.decode(errors="replace"))
                        sys.stderr.flush()
                process.wait()
            except BaseException:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                process.kill()
                raise
        if fault.is_file():
            raise UserError(fault.read_text())
        return process.returncode if process.returncode >= 0 else 128 - process.returncode
