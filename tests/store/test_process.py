"""Whether a process is gone, and that it can end in order."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from partsynth.store.process import identity, interruptible, is_dead, stoppable, whole

PRINT = "from partsynth.store.process import identity; print(identity(), flush=True); input()"


@pytest.fixture
def other():
    """A process that waits, and its identity."""
    with subprocess.Popen([sys.executable, "-c", PRINT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, process.stdout.readline().decode().strip()
        process.kill()


def test_the_living_and_the_dead_are_told_apart(other):
    process, name = other
    assert not is_dead(identity()) and not is_dead(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE and is_dead(name)
    process.wait()
    assert is_dead(name)


def test_a_later_process_of_the_same_pid_is_another():
    host, pid, start = identity().rsplit(":", 2)
    assert is_dead(f"{host}:{pid}:{int(start) - 60}")
    assert not is_dead(f"another-{host}:{pid}:{int(start) - 60}")  # nothing is known of other hosts


def test_an_older_name_without_a_start_is_asked_for_by_its_pid(other):
    process, name = other
    older = name.rpartition(":")[0]
    assert older == f"{platform.node()}:{process.pid}" and not is_dead(older)
    process.kill()
    process.wait()
    assert is_dead(older)
    assert not is_dead("") and not is_dead(platform.node()) and not is_dead(f"{platform.node()}:x")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_once_and_what_was_set_comes_back(number):
    # under nohup a closed terminal is ignored: here as in a terminal
    found = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        before = signal.getsignal(number)
        with stoppable():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            for later in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(later)  # while things are put in order: ignored
        assert signal.getsignal(number) == before
    finally:
        signal.signal(signal.SIGHUP, found)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def inside():
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_interrupt_that_was_lost_is_remembered():
    with stoppable() as stop:
        stop.obey()  # nobody asked yet
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            stop.obey()


def test_all_that_listen_hear_of_an_interrupt():
    """What a library makes of one inside is told as one outside, too."""
    before = signal.getsignal(signal.SIGINT)
    try:
        outer = interruptible()
        with stoppable() as first, stoppable() as inner:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            assert (outer.asked, first.asked, inner.asked) == (True, True, True)
        with stoppable() as later:
            assert not later.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_not_to_be_interrupted_goes_on_to_its_end():
    done = []
    with stoppable() as stop, pytest.raises(KeyboardInterrupt):
        with whole():
            with whole():
                signal.raise_signal(signal.SIGTERM)
                done.append(stop.asked)
            done.append("outer")
        done.append("after")
    assert done == [True, "outer"]
    with whole():  # nothing is left of it
        pass


def test_who_asks_again_is_heard_at_once(monkeypatch):
    monkeypatch.setattr("partsynth.store.process.AGAIN", 0.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interruptible()
        done = []
        with pytest.raises(KeyboardInterrupt), whole():
            signal.raise_signal(signal.SIGINT)
            done.append("once")
            signal.raise_signal(signal.SIGINT)
            done.append("twice")
        assert done == ["once"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_not_held():
    seen = []

    def inside():
        with whole():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            seen.append("went on")

    with stoppable(), pytest.raises(KeyboardInterrupt):
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        time.sleep(60)
    thread.join()
    assert seen == ["went on"]


COUNT = """
import resource, sys
from partsynth.store.process import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
for _ in range(20):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: its ways are its own")
def test_memory_that_was_freed_is_used_again():
    def faults(how: str) -> int:
        asked = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
        return int(asked.stdout)

    pages = (64 << 20) // 4096
    # each of twenty blocks anew, or one of them all the time
    assert faults("given back") > 15 * pages > 5 * pages > faults("kept")
