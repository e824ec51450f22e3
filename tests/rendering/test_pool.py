"""Worker processes: what Ctrl-C must not do to a picture in work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait

from helpers.renders import take

from partsynth.rendering.pool import pool
from partsynth.store.process import is_dead


def test_an_interrupt_leaves_no_half_rendered_picture(tmp_path):
    with pool(1) as processes:
        whole = processes.submit(take).result()
        (worker,) = processes._processes
        assert os.getpgid(worker) != os.getpgrp()  # Ctrl-C in the terminal passes it by
        begun = tmp_path / "begun"
        interrupted = processes.submit(take, begun)
        sent = 0
        while not wait([interrupted], timeout=0.02).done:
            if begun.exists():
                os.kill(worker, signal.SIGINT)
                sent += 1
        assert sent and (interrupted.result() == whole).all()


def test_workers_die_with_their_parent():
    text = (
        "import time; from partsynth.store import process; from partsynth.rendering.pool import pool\n"
        "processes = pool(1); print(processes.submit(process.identity).result(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as parent:
        worker = parent.stdout.readline()
        assert not is_dead(worker)
        parent.kill()
    deadline = time.monotonic() + 20
    while not is_dead(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_dead(worker)
