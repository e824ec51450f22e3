"""partsynth beside what one would otherwise run: ratios with their spread, written to reports/peers.json.

    python benchmarks/peers.py [--only sdedit loss-4096 ...] [--rounds 3] [--quick] [--cpu] [--again]

Both sides of a comparison do the same work on the same inputs (`peer_inputs.py` makes them in .work/peers), each in a
fresh process, with as many threads, and with `store.process.keep_memory`, which alone makes a network's passes up to
three times as fast on a CPU: it is no part of any ratio. A round runs ours and its peers one after another, in turned
order; a ratio is of one round, the table has the median of the rounds and the least and the greatest. Finished rounds
are kept: stopped and started again, it goes on, and after a commit it measures anew (``--again``: at once).

Every ratio is the peer's time (or memory) divided by ours, and has to be at least its goal. Where the peer is only a
part of our own work (the U-Net's forwards, a bare forward and backward), it is the share of that part.

``--cpu``: ratios of CPU time, for a look while the machine does other things; then nothing is written to reports.
Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import repository
from repository import ROOT

PHOTOS, PHOTOS_QUICK = 24, 5  # per class


@dataclass(frozen=True)
class Peer:
    """One row of the table."""

    work: str  # what is compared, in words
    name: str  # of the peer, in words
    side: str  # that measures it
    goal: float  # least ratio
    figure: str = "seconds"
    ours: str = "seconds"


@dataclass(frozen=True)
class Group:
    """Our side and its peers, measured round by round."""

    side: str
    peers: tuple[Peer, ...]


def _losses(rows: int) -> Group:
    work = f"SupCon loss, forward and backward, N = {rows}"
    peers = []
    for name, side in (("SupContrast's formula", "supcontrast"), ("pytorch-metric-learning", "pml")):
        peers.append(Peer(f"{work}: time", name, f"loss-{rows}-{side}", 1.0, "seconds_each", "seconds_each"))
        peers.append(Peer(f"{work}: peak memory", name, f"loss-{rows}-{side}", 2.0, "mib", "mib"))
    return Group(f"loss-{rows}", tuple(peers))


SETS = "the demo's three sets by SDEdit"
INVERSION = "textual inversion of 12 classes"
STEP = "a training step of the demo"
FILES = "ingest of JPEG photographs, products written"
NEAR = "near duplicates among 2,000 images"
GROUPS = {
    "sdedit": Group(
        "sdedit",
        (
            Peer(SETS, "diffusers' img2img pipeline, one image a call (DA-Fusion's way)", "img2img-one", 3.0),
            Peer(SETS, "diffusers' img2img pipeline, batches of 32", "img2img-batched", 1.0),
            Peer(f"{SETS}: share of the U-Net's forwards", "the same forwards alone", "unet-alone", 0.85),
        ),
    ),
    "inversion": Group(
        "inversion",
        (
            Peer(f"{INVERSION}, whole processes", "diffusers' way, a process per class", "inversion-each", 2.0),
            Peer(
                f"{INVERSION}, our whole process and the peer's loops without its starts",
                "diffusers' way, a process per class",
                "inversion-each",
                1.0,
                "loop",
            ),
        ),
    ),
    **{f"loss-{rows}": _losses(rows) for rows in (256, 1024, 4096)},
    "step": Group(
        "step",
        (
            Peer(f"{STEP}: share of the network", "its bare forward and backward", "bare-step", 0.91),
            Peer(STEP, "a plain loop: DataLoader, torchvision's transforms, SupContrast's loss", "plain-loop", 1.0),
        ),
    ),
    "ingest": Group(
        "ingest",
        (
            Peer(FILES, "ImageFolder decodes the same files, one process", "image-folder", 1.0),
            Peer(FILES, "ImageFolder decodes them in a DataLoader, a worker per core", "image-folder-workers", 1.0),
        ),
    ),
    "near": Group(
        "near",
        (
            Peer(NEAR, "imagehash.phash, pairs as a - b", "imagehash", 1.0),
            Peer(NEAR, "imagehash.phash, pairs by numpy", "imagehash-numpy", 1.0),
        ),
    ),
    "near-turned": Group(
        "near-turned",
        (Peer(f"{NEAR}, mirrored and turned ones too", "imagehash.phash (none turned), a - b", "imagehash", 1.0),),
    ),
}


def measure(name: str, inputs: Path, quick: bool) -> None:
    """The child: prepares a side, then times it."""
    from partsynth.store.process import keep_memory

    keep_memory()
    threads = len(os.sched_getaffinity(0))
    if not name.startswith("inversion"):  # that one has processes of its own
        import torch

        torch.set_num_threads(threads)
    import peer_diffusion
    import peer_sides

    work = {**peer_diffusion.SIDES, **peer_sides.SIDES}[name](inputs, quick)
    start, cpu = time.perf_counter(), _cpu()
    figures = work() or {}
    told = {"seconds": time.perf_counter() - start, "cpu": _cpu() - cpu, **figures}
    print(json.dumps(told))


def _cpu() -> float:
    """Seconds of this process and of its ended children, user and system."""
    total = 0.0
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(whose)
        total += used.ru_utime + used.ru_stime
    return total


def run_side(name: str, inputs: Path, quick: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, "--inputs", str(inputs), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=_environment())
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip()[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    """As many threads for every side, whatever the library takes by itself."""
    threads = str(len(os.sched_getaffinity(0)))
    return os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}


def run_group(group: Group, number: int, inputs: Path, quick: bool, kept: Path, commit: str) -> dict[str, dict]:
    """Every side's figures of one round; kept."""
    path = kept / f"{group.side}-{number}.json"
    if path.is_file() and (told := json.loads(path.read_text()))["commit"] == commit:
        return told["sides"]
    sides = list(dict.fromkeys([group.side, *(peer.side for peer in group.peers)]))
    turned = sides[number % len(sides) :] + sides[: number % len(sides)]
    found = {side: run_side(side, inputs, quick) for side in turned}
    kept.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"commit": commit, "sides": found}, indent=1))
    draft.replace(path)
    return found


def rows(group: Group, rounds: list[dict[str, dict]], cpu: bool) -> list[dict]:
    """The group's rows of peers.json, with the spread."""
    told = []
    for peer in group.peers:
        theirs, ours = (_by_cpu(figure) if cpu else figure for figure in (peer.figure, peer.ours))
        ratios = [found[peer.side][theirs] / found[group.side][ours] for found in rounds]
        ratio = statistics.median(ratios)
        row = {"work": peer.work, "peer": peer.name, "ratio": round(ratio, 3), "goal": peer.goal}
        told.append(row | {"met": ratio >= peer.goal, "spread": [round(min(ratios), 3), round(max(ratios), 3)]})
    return told


def _by_cpu(figure: str) -> str:
    return {"seconds": "cpu", "seconds_each": "cpu_each", "loop": "cpu_loop"}.get(figure, figure)


def show(told: list[dict]) -> None:
    for row in told:
        low, high = row["spread"]
        missed = "" if row["met"] else ", **missed**"
        goal = f">= {row['goal']:g}{missed}"
        print(f"| {row['work']} | {row['peer']} | {row['ratio']:.2f} | {low:.2f} - {high:.2f} | {goal} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="WORK", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="little work, one round: whether it runs")
    parser.add_argument("--cpu", action="store_true", help="ratios of CPU time")
    parser.add_argument("--again", action="store_true", help="forget finished rounds")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/peers.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.inputs, options.quick)
        return 0

    from peer_inputs import make_inputs

    work = ROOT / ".work/peers"
    mode = "quick" if options.quick else "full"
    inputs, kept, commit = work / f"inputs-{mode}", work / mode, repository.commit()
    make_inputs(inputs, PHOTOS_QUICK if options.quick else PHOTOS)
    count = 1 if options.quick else options.rounds
    print(
        f"{count} round(s), {'CPU time' if options.cpu else 'time'}, commit {commit}, {platform.machine()} x "
        f"{len(os.sched_getaffinity(0))}, load before {os.getloadavg()[0]:.1f}\n"
    )
    print("| work | peer | ratio | spread | goal |\n|---|---|---|---|---|")
    told = []
    for name in options.only or GROUPS:
        if options.again:
            for path in kept.glob(f"{GROUPS[name].side}-[0-9]*.json"):
                path.unlink()
        rounds = [run_group(GROUPS[name], n, inputs, options.quick, kept, commit) for n in range(count)]
        part = rows(GROUPS[name], rounds, options.cpu)
        show(part)
        told += part
    if not (options.quick or options.cpu or options.only):
        options.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if all(row["met"] for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
