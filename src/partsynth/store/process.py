"""Processes: a name that no later one shares, whether one is gone, an orderly end for this one, and its memory."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

AGAIN = 5.0  # seconds within which a further Ctrl-C is the same


def identity() -> str:
    """``host:pid:start`` of this process (its start in seconds since 1970): a later one of the same pid has another."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def cores() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_dead(named: str) -> bool:
    """Whether a process of this host is gone; of other hosts nothing is known.

    Of a ``host:pid`` without a start, as older runs have it, the pid alone is asked for.
    """
    here = f"{platform.node()}:"
    pid, _, start = named.removeprefix(here).partition(":")
    if not named.startswith(here) or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and its parent has not looked yet
            return True
        return bool(start) and abs(process.create_time() - float(start)) > 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


@dataclass(eq=False)
class Stop:
    """Whether this process was asked to stop. A library may have made another exception of the KeyboardInterrupt that
    told so, or have lost it: loops that go on after an exception look here."""

    asked: bool = False

    def obey(self) -> None:
        """
        Raises
        ------
        KeyboardInterrupt
            where this process was asked to stop.
        """
        if self.asked:
            raise KeyboardInterrupt


_listening: list[Stop] = []  # all of them hear of whatever asks this process to stop


@dataclass
class _Whole:
    """What the main thread is in the middle of (``whole``), and whether it was asked to stop meanwhile."""

    depth: int = 0
    late: bool = False


_in = _Whole()


def _ask() -> None:
    """All hear of it; what is not to be interrupted goes on to its end, unless it is asked again."""
    for stop in _listening:
        stop.asked = True
    if _in.depth and not _in.late:
        _in.late = True
        return
    raise KeyboardInterrupt


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Inside, what asks this process to stop is heard, and obeyed at the end: for a library's transaction, which an
    interrupt would leave open, so that the database stays locked. In other threads, which signals spare, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _in.depth += 1
    try:
        yield
    finally:
        _in.depth -= 1
        if _in.late and not _in.depth:
            _in.late = False
            raise KeyboardInterrupt


def interruptible() -> Stop:
    """From now on Ctrl-C raises KeyboardInterrupt as before, and it is remembered that it came. Another one within some
    seconds is the same: it may reach a process from its terminal and from its parent, while it puts things in order.

    A process that was started to ignore Ctrl-C (in the background of a shell) goes on ignoring it.
    """
    asked, last = Stop(), -math.inf

    def interrupt(*_: object) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= AGAIN:
            last = now
            _ask()

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    _listening.append(asked)
    return asked


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside, SIGTERM and a closed terminal raise KeyboardInterrupt as Ctrl-C does, once: what was begun can be put in
    order, and whatever of the three follows meanwhile is ignored. Outside the main thread it changes nothing."""
    asked = Stop()
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
        numbers.remove(signal.SIGHUP)

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        _ask()

    _listening.append(asked)
    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread: signals go elsewhere
            before |= {number: signal.signal(number, stop) for number in numbers}
        yield asked
    finally:
        _listening.remove(asked)
        for number, handler in before.items():
            signal.signal(number, handler)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where its C library is GNU's.

    By default that library asks the kernel for each block of over 32 MB and gives it back when it is freed. A network's
    activations are such blocks: two thirds of the time of a forward on CPU went into clearing the same pages again and
    again (EfficientNet-Lite0 of 64 images of 160 px: 86 images per second without this, 240 with it). The price is that
    a process stays as large as it ever was. Results do not change.
    """
    with contextlib.suppress(OSError, AttributeError):  # other systems have other libraries
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
