"""The processes that do one stage together, as ``accelerate launch``, ``torchrun`` or Slurm started them.

Each does its range of the work and leaves files in the project's folder, which all share; the first process alone
prints, and writes what there is one of. They meet at a key-value store of torch's (TCPStore), which lies on no device:
CPUs, several GPUs and two processes on one GPU are alike. Without a launcher there is one process, and none of this
costs time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from partsynth.errors import UserError
from partsynth.store.process import identity, is_dead

T = TypeVar("T")
FAULT = "PARTSYNTH_FAULT"  # names the file that takes a fault's sentence, for the command that started the launcher
SRUN = "PARTSYNTH_SRUN"  # the launcher is Slurm's srun, which has other names for its variables
JOIN = 600.0  # seconds for all processes to start: machines of a cluster come at different times
LOST = 120.0  # seconds without a sign of life, after which a process of another machine is taken for ended
BEAT = 0.5  # seconds between two signs of life
LINGER = 10.0  # seconds that the others have to hear of a fault


class Workers:
    """This process among ``count``; its ``rank`` counts from 0. By itself: the only one."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.fault: str | None = None  # another process's, which ends all

    @property
    def first(self) -> bool:
        """Whether this process writes what there is one of."""
        return self.rank == 0

    def of(self, rank: int, count: int) -> range:
        """A process's part of ``count`` things, which lie in a row; parts differ by one thing at most."""
        return range(count * rank // self.count, count * (rank + 1) // self.count)

    def mine(self, things: Sequence[T]) -> Sequence[T]:
        """This process's range of ``things``."""
        part = self.of(self.rank, len(things))
        return things[part.start : part.stop]

    def dealt(self, things: Sequence[T]) -> Sequence[T]:
        """This process's things, where they are dealt out one by one."""
        return things[self.rank :: self.count]

    def barrier(self, waiting: Callable[[], object] | None = None) -> None:
        """Return when all processes are here; ``waiting`` is called again and again meanwhile."""

    def gather(self, value: bytes) -> list[bytes]:
        """All processes' values, by rank; each of them has to ask."""
        return [value]

    def total(self, number: int) -> int:
        """The sum of all processes' numbers; each of them has to ask."""
        return sum(int(value) for value in self.gather(b"%d" % number))

    def tally(self) -> Tally:
        """A count that all processes add to; each of them has to ask."""
        return Tally()

    def leave(self) -> None:
        """This process's part is done; the first one stays until all are."""

    def fail(self, sentence: str) -> bool:
        """End the others too; returns whether this process is the one that tells people."""
        return True


class Tally:
    """How much all processes have done so far."""

    def __init__(self) -> None:
        self._own = 0

    def add(self, number: int = 1) -> int:
        """Add to it; returns the sum."""
        self._own += number
        return self.sum()

    def sum(self) -> int:
        return self._own


class _SharedTally(Tally):
    """Kept at the store; asked twice a second at most."""

    def __init__(self, store: Any, key: str) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._told, self._sum, self._asked = 0, 0, 0.0

    def sum(self) -> int:
        if time.monotonic() - self._asked >= BEAT:
            with contextlib.suppress(RuntimeError):  # the store is gone: others see to that
                self._sum = self._store.add(self._key, self._own - self._told)
                self._told = self._own
            self._asked = time.monotonic()
        return self._sum + self._own - self._told


class Joined(Workers):
    """One of several processes.

    A thread gives signs of life and looks for those of the others: where one of them reports a fault, was killed or is
    not heard of any more, this process ends as well, so that none waits for ever.
    """

    def __init__(self, store: Any, rank: int, count: int) -> None:
        super().__init__(rank, count)
        self._store, self._tells = store, False
        self._met = self._tallies = 0
        self._ended = threading.Event()
        self._seen: dict[int, tuple[int, float]] = {}  # rank -> its last sign of life, and when that was new
        store.set(f"who/{rank}", identity())
        self._watch = threading.Thread(target=self._watching, daemon=True)
        self._watch.start()

    def barrier(self, waiting: Callable[[], object] | None = None) -> None:
        self._met += 1
        key, pause = f"barrier/{self._met}", 0.002
        with self._at_store():
            self._store.add(key, 1)
            while self._store.add(key, 0) < self.count:
                time.sleep(pause)
                pause = min(0.2, pause * 1.5)
                if waiting is not None:
                    waiting()

    def gather(self, value: bytes) -> list[bytes]:
        key = f"value/{self._met + 1}"
        with self._at_store():
            self._store.set(f"{key}/{self.rank}", value)
            self.barrier()
            return [self._store.get(f"{key}/{rank}") for rank in range(self.count)]

    def tally(self) -> Tally:
        self._tallies += 1
        return _SharedTally(self._store, f"tally/{self._tallies}")

    def leave(self) -> None:
        if not self.first:
            self._ended.set()
            self._watch.join()
            self._store.set(f"left/{self.rank}", "done")
            return
        with self._at_store():
            while not all(self._store.check([f"left/{rank}"]) for rank in range(1, self.count)):
                time.sleep(0.05)
        self._ended.set()

    def fail(self, sentence: str) -> bool:
        self._ended.set()
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.fault is None:
            try:
                self._report(sentence)
            except RuntimeError:  # the store is gone, and the first process with it
                self._tells = self.rank == 1
        tells = self._tells and not _left_behind(self.fault or sentence)
        with contextlib.suppress(RuntimeError):
            self._store.set(f"left/{self.rank}", "failed")
            self._linger()
        return tells

    @contextlib.contextmanager
    def _at_store(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            raise UserError(self._gone) from None

    @property
    def _gone(self) -> str:
        """The store is, which the first process holds, or its launcher."""
        return f"{self._name(0)} ended early, and with it all: {AGAIN}"

    def _report(self, sentence: str) -> None:
        """Tell the others, unless one of them was first."""
        self._tells = self._store.add("faults", 1) == 1
        if self._tells:
            self._store.set("fault", sentence)
        self.fault = sentence

    def _linger(self) -> None:
        """The first process may hold the store: it goes when the others know."""
        until = time.monotonic() + LINGER
        while self.first and time.monotonic() < until:
            if all(self._store.check([f"left/{r}"]) or self._is_dead(r) for r in range(1, self.count)):
                return
            time.sleep(0.05)

    def _watching(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._store.add(f"beat/{self.rank}", 1)
                if self._store.check(["fault"]):
                    self.fault = self._store.get("fault").decode()
                elif lost := self._lost():
                    self._report(lost)
                else:
                    continue
            except RuntimeError:
                self._tells = self.rank == 1
                self.fault = self._gone
            if not self._ended.is_set():
                self._end()
            return

    def _lost(self) -> str:
        """A sentence, where a process is gone that was not done: the first looks for all, the others for the first."""
        for rank in range(1, self.count) if self.first else [0]:
            sign, now = self._store.add(f"beat/{rank}", 0), time.monotonic()
            if rank not in self._seen or self._seen[rank][0] != sign:
                self._seen[rank] = (sign, now)
            silent = now - self._seen[rank][1]
            if silent < 3 * BEAT or self._store.check([f"left/{rank}"]):
                continue
            if self._is_dead(rank):
                return f"{self._name(rank)} was killed, and all ended: {AGAIN}"
            if silent > (LOST if self._store.check([f"who/{rank}"]) else JOIN):
                return f"{self._name(rank)} was not heard of for {silent:.0f} s, and all ended: {AGAIN}"
        return ""

    def _is_dead(self, rank: int) -> bool:
        return self._store.check([f"who/{rank}"]) and is_dead(self._store.get(f"who/{rank}").decode())

    def _name(self, rank: int) -> str:
        return f"process {rank + 1} of {self.count}"

    def _end(self) -> None:
        """End the main thread in good order where it can be, else at once."""
        os.kill(os.getpid(), signal.SIGINT)
        if self._ended.wait(LINGER):
            return
        if self._tells and not _left_behind(self.fault or ""):
            print(f"partsynth: {self.fault}", file=sys.stderr, flush=True)
        os._exit(1)


AGAIN = "start the stage again, it goes on where it was"


def launched() -> bool:
    """Whether a launcher started this process."""
    return FAULT in os.environ or int(os.environ.get("WORLD_SIZE", 1)) > 1


def joined() -> bool:
    """Whether this process has joined others."""
    return here.cache_info().currsize > 0 and here().count > 1


@functools.cache
def here() -> Workers:
    """This process among those that its launcher started; it joins them when first asked.

    Afterwards "cuda" is this process's own device, and what other processes than the first print goes nowhere.

    Raises
    ------
    UserError
        where the launcher's variables are not complete, or not all processes come.
    """
    if SRUN in os.environ:
        _as_slurm_says()
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        return Workers()
    if lacking := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise UserError(
            f"WORLD_SIZE is {count} but {' and '.join(lacking)} not set: start with accelerate launch or torchrun, "
            "or set all four"
        )
    local = int(os.environ.get("LOCAL_RANK", 0))
    if "OMP_NUM_THREADS" not in os.environ:  # before torch is imported: processes of one machine share its cores
        together = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // together))
    import torch
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN)))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        told = str(error).splitlines()[0][:200]
        raise UserError(f"{count} processes could not meet at {where} (MASTER_ADDR, MASTER_PORT): {told}") from None
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    if rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return Joined(PrefixStore("partsynth", store), rank, count)


def _as_slurm_says() -> None:
    """Give the variables of a Slurm step the names that other launchers use. The first process runs where srun was
    called, on the first machine."""
    told = {
        "RANK": os.environ.get("SLURM_PROCID"),
        "LOCAL_RANK": os.environ.get("SLURM_LOCALID"),
        "WORLD_SIZE": os.environ.get("SLURM_NTASKS"),
        "LOCAL_WORLD_SIZE": os.environ.get("SLURM_NTASKS_PER_NODE"),
        "MASTER_ADDR": os.environ.get("SLURM_LAUNCH_NODE_IPADDR"),
        "MASTER_PORT": str(20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20000),
        "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK"),
    }
    for name, value in told.items():
        if value is not None:
            os.environ.setdefault(name, value)


def _left_behind(sentence: str) -> bool:
    """Leave a fault's sentence to the command that started the launcher, where there is one."""
    if FAULT not in os.environ:
        return False
    with contextlib.suppress(OSError), open(Path(os.environ[FAULT]), "x") as file:  # the first one's
        file.write(sentence)
    return True
