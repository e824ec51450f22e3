"""Worker processes: what Ctrl-C must not do to a picture in work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path

import numpy as np

from partsynth.rendering import catalog, scene
from partsynth.rendering.pool import pool
from partsynth.rendering.wear import Wear
from partsynth.store.process import is_dead


def take(begun: Path | None = None) -> np.ndarray:
    """Half a second of rendering; ``begun`` is made when it starts."""
    shot = catalog.draw_shots(catalog.NARROW, np.random.default_rng(0))["cam0"]
    if begun is not None:
        begun.touch()
    features = {"sides": 32, "holes": 4, "hub": 1}
    return scene.photograph("flange", features, 1, Wear("used", 0.2, "steel", 5), shot, 72, 256)[0]


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
