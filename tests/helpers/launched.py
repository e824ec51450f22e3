"""A stage in several processes, started as a launcher starts them: by the variables that it sets.

``python launched.py stages`` is one process of several that run five stages in the current folder. ``launch`` is a
launcher as others are: it ends all processes where one fails, and says much about it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CLI = ["-m", "partsynth.cli"]
EVALUATED = "evaluated"  # the folder of a project whose models are evaluated


class Ended(NamedTuple):
    """Each process's exit status, output and errors, by rank."""

    codes: list[int]
    outputs: list[str]
    errors: list[str]


SLURM = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS"}
SLURM |= {"LOCAL_WORLD_SIZE": "SLURM_NTASKS_PER_NODE", "MASTER_ADDR": "SLURM_LAUNCH_NODE_IPADDR"}


def start(root: Path, count: int, words: Sequence[str], slurm: bool = False, **pipes: int) -> list[subprocess.Popen]:
    """``python WORDS`` in ``count`` processes in the folder ``root``; with ``slurm`` the variables that srun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        told = {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
        if slurm:
            told = {SLURM[name]: value for name, value in told.items() if name in SLURM}
            told["SLURM_JOB_ID"] = str(port - 20000)
        environment = os.environ | told | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        started.append(subprocess.Popen([sys.executable, *words], cwd=root, env=environment, text=True, **pipes))
    return started


def wait(started: list[subprocess.Popen], seconds: float = 540) -> Ended:
    """All have to end by themselves."""
    try:
        told = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return Ended([p.returncode for p in started], [out for out, _ in told], [err for _, err in told])


def run(root: Path, count: int, words: Sequence[str]) -> Ended:
    return wait(start(root, count, words, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


def stages(root: Path) -> None:
    """Tokens, a calibrated set with a quota, its verdicts, and an evaluation of other models, on the CPU."""
    from helpers import tiny_sd
    from helpers.evaluated_project import Project
    from partsynth.augmentation.methods.sdedit import SdeditSet
    from partsynth.config.generation import Calibrate, Generate
    from partsynth.config.models import Diffusion, Reference
    from partsynth.config.quality import Quality
    from partsynth.stages import calibrate, evaluate, generate, quality
    from partsynth.store import workers

    diffusion, judge = Diffusion(device="cpu"), Quality(calibration="views")
    reference = Reference(model="encoder", batch_size=8, device="cpu")
    settings = Generate(steps=2, batch_size=4)
    wanted = SdeditSet(strength="auto", target=(0.0, 0.9), variants=1, quota=4)
    real, tokens, strengths = root / "data/real", tiny_sd.learn_tokens(root), root / "data/strengths/id.json"
    given = {"diffusion": diffusion, "augmentation": wanted, "set_name": "id", "real": real, "tokens": tokens}
    search = {"params": Calibrate(sources=3, rounds=2), "generate": settings, "quality": judge, "reference": reference}
    barrier = workers.here().barrier  # what one stage's first process writes, the next stage's read
    barrier()
    calibrate.run(calibrate.Inputs(**search, **given, out=strengths, root=root))
    barrier()
    images = root / "data/augmented/id"
    generate.run(generate.Inputs(params=settings, **given, strengths=strengths, out=images, root=root))
    barrier()
    told = {"images": images, "real": real, "out": root / "data/quality/id.csv", "page": root / "reports/quality/id"}
    quality.run(quality.Inputs(params=judge, reference=reference, set_name="id", **told, root=root))
    with contextlib.chdir(root / EVALUATED):
        evaluate.run(Project(Path()).inputs())


def launch(count: int, words: Sequence[str], slurm: bool = False) -> int:
    started = start(Path.cwd(), count, words, slurm)
    while all(process.poll() is None for process in started):
        time.sleep(0.05)
    while any(process.poll() is None for process in started):
        if any(process.poll() for process in started):
            for process in started:
                process.terminate()
        time.sleep(0.05)
    if failed := [rank for rank, process in enumerate(started) if process.returncode]:
        print(f"Traceback of a launcher: process {failed[0]} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    from partsynth.store import workers

    stages(Path.cwd())
    workers.here().leave()
