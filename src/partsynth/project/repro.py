"""`dvc repro`, trainings side by side: `partsynth repro`; and DVC as a process that ends with whoever started it.

DVC runs one stage after another. Trainings are many and need nothing of each other, and DVC lets several of its
processes work in one project, each on stages of its own.
"""

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

import psutil

from partsynth.config import load as config_load
from partsynth.config.training import Matrix, Train
from partsynth.errors import UserError
from partsynth.store.process import cores, stoppable

MEMORY = 2 << 30  # bytes that a training on a CPU may need


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
    prefix : of each line that is passed on
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
            if line.strip():
                print(f"{prefix}{line.rstrip()}", flush=True)
        return process.wait()


def run(folder: Path, workers: int | None = None) -> None:
    """`dvc repro` of all stages, ``workers`` trainings side by side.

    Parameters
    ----------
    workers : None = as many as there are GPUs, or as ``train.threads`` go into the cores

    Raises
    ------
    UserError
        for faults of params.yaml, and where a stage fails; what was finished is kept.
    """
    params = folder / "params.yaml"
    train: Train = config_load.load("train", params)
    matrix: Matrix = config_load.load("matrix", params)
    trainings = [f"train@{setup}-{seed}" for setup in matrix.setups for seed in matrix.seeds]
    places = _places(train, workers)[: len(trainings)]
    running = Running()

    def reproduce(arguments: Sequence[str], place: dict[str, str], prefix: str = "") -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | place
        if dvc(arguments, folder, environment, running, prefix):
            raise UserError(
                "dvc repro failed (its output is above): put it right and start again, it goes on from there"
            )

    with stoppable():
        if len(places) > 1:
            reproduce(["repro", *(f"select@{setup}" for setup in matrix.setups)], {})

            def share(number: int) -> None:
                own = trainings[number :: len(places)]
                command = ["--wait-for-lock", "repro", "--single-item", *own]
                reproduce(command, places[number], f"[{number + 1}] ")

            each(range(len(places)), share, len(places), running)
        reproduce(["repro"], {})


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


def _places(train: Train, workers: int | None) -> list[dict[str, str]]:
    """What each of the trainings side by side finds in its environment: on a GPU one of its own, on a CPU nothing."""
    import torch

    if train.device != "cpu" and torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
        return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(workers or len(gpus))]
    if workers is None:
        workers = min(cores() // (train.threads or cores()), psutil.virtual_memory().available // MEMORY)
    return [{} for _ in range(max(1, workers))]


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
