"""DVC as processes that end with whoever started them, several side by side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

HINTS = (  # how each run of DVC ends; of many side by side they bury what the stages say
    "Generating lock file",
    "Updating lock file",
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push`",
)


class Running:
    """Processes that run at this moment, so that all can be ended at once."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._ended, self._lock = False, threading.Lock()

    @contextlib.contextmanager
    def started(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Inside, the process is one of them; it is ended where all were before it came, and where the block fails."""
        with self._lock:
            self._processes.add(process)
            late = self._ended
        try:
            if late:
                _end([process])
            yield
        except BaseException:
            _end([process])
            raise
        finally:
            with self._lock:
                self._processes.discard(process)

    def end(self) -> None:
        """End all of them, and those that come later."""
        with self._lock:
            self._ended, processes = True, list(self._processes)
        _end(processes)


def dvc(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    running: Running,
    prefix: str = "",
    read: Callable[[str], None] = lambda line: None,
) -> int:
    """DVC in a project, its output passed on line by line; returns its exit status.

    Parameters
    ----------
    running : whose ``end`` ends this one too
    prefix : of each line that is passed on; DVC's hints on git are not, where there is one
    read : is given each line
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with running.started(process):
        assert process.stdout is not None
        for line in process.stdout:
            read(line)
            if line.strip() and not (prefix and line.startswith(HINTS)):
                print(f"{prefix}{line.rstrip()}", flush=True)
        return process.wait()


def each(items: Sequence[Any], do: Callable[[Any], None], workers: int, running: Running) -> None:
    """Call ``do`` with each, ``workers`` at a time; where one fails, or this is stopped, end all that run."""
    if workers == 1:
        for item in items:
            do(item)
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(do, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            running.end()
            raise


def _end(processes: Collection[subprocess.Popen[str]]) -> None:
    """Interrupt DVC and the stages it runs, which keep what they can go on from; kill those that do not end."""
    for number, patience in ((signal.SIGINT, 30.0), (signal.SIGKILL, None)):
        running = [process for process in processes if process.poll() is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
