"""partsynth beside what one would otherwise run: ratios with their spread, written to reports/peers.json.

    python benchmarks/peers.py [--only sdedit loss-4096 ...] [--rounds 3] [--quick] [--cpu] [--again]
    python benchmarks/peers.py --device cuda [--dtype bfloat16] [--classes 4] [--only ...] [--out FILE]

Both sides of a comparison do the same work on the same inputs (`peer_inputs.py` makes them in .work/peers), each in a
fresh process, with as many threads, and with `store.process.keep_memory`, which alone makes a network's passes up to
three times as fast on a CPU: it is no part of any ratio. A round runs ours and its peers one after another, in turned
order; a ratio is of one round, the table has the median of the rounds and the least and the greatest. Finished rounds
are kept: stopped and started again, it goes on, and after a commit it measures anew (``--again``: at once).

Every ratio is the peer's time (or memory) divided by ours, and has to be at least its goal. Where the peer is only a
part of our own work (the U-Net's forwards, a bare forward and backward), it is the share of that part.

``--device cuda``: generation, inversion, loss and step on a GPU. There the sides of a group share a process (a start
takes longer than most of them work): each warms up first, rounds are turned as before, clocks are read when the device
has done its work, memory is the most that torch's allocator held beyond what a side held before.

``--cpu``: ratios of CPU time, for a look while the machine does other things; then nothing is written to reports.
Exit code 1 where a goal is missed, 2 where a side fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import repository
from peer_setting import Figures, Setting, Timed, add_flags, given
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
INVERSION = "textual inversion of {classes} classes"
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
ON_GPU = ("sdedit", "inversion", "loss-256", "loss-1024", "loss-4096", "step")
BOTH_PRECISIONS = ("sdedit", "step")
WHOLE = "inversion"  # sides of this name start processes of their own
REST = 1.5  # seconds, in which a loader's workers have read ahead as far as they do


def measure(names: list[str], setting: Setting, rounds: int) -> None:
    """The child: prepares sides, then times them; a line per round."""
    from partsynth.store.process import keep_memory

    keep_memory()
    threads = len(os.sched_getaffinity(0))
    whole = names[0].startswith(WHOLE)
    if not whole:
        import torch

        torch.set_num_threads(threads)
    import peer_diffusion
    import peer_sides

    sides = {**peer_diffusion.SIDES, **peer_sides.SIDES}
    if setting.cuda and not whole:
        for name in names:
            sides[name](replace(setting, quick=True))()
    works = {name: sides[name](setting) for name in names}
    for number in range(rounds):
        found = {}
        for name in _turned(names, number):
            if "plain-loop" in works and len(works) > 1:
                time.sleep(REST)
            found[name] = _timed(works[name], setting)
        print(json.dumps(found), flush=True)


def _timed(work: Timed, setting: Setting) -> Figures:
    if setting.cuda:
        import torch

        setting.wait()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    start, cpu = time.perf_counter(), _cpu()
    figures = work() or {}
    setting.wait()
    told = {"seconds": time.perf_counter() - start, "cpu": _cpu() - cpu}
    if setting.cuda:
        told["gpu_mib"] = (torch.cuda.max_memory_allocated() - held) / 2**20
    return told | figures


def _turned(sides: list[str], number: int) -> list[str]:
    """Another one first in each round."""
    return sides[number % len(sides) :] + sides[: number % len(sides)]


def _cpu() -> float:
    """Seconds of this process and of its children, user and system: of a DataLoader's workers too, which live on."""
    import psutil

    total = 0.0
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(whose)
        total += used.ru_utime + used.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            alive = child.cpu_times()
            total += alive.user + alive.system
    return total


def run_sides(names: list[str], setting: Setting, rounds: int = 1) -> list[dict[str, Figures]]:
    """The sides' figures in each round, of a fresh process."""
    import psutil

    from partsynth.store.process import stoppable

    command = [sys.executable, __file__, "--measure", *names, "--rounds", str(rounds), *setting.flags()]
    pipe = subprocess.PIPE
    with (
        stoppable(),
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=_environment()) as process,
    ):
        try:
            told, faults = process.communicate()
        except BaseException:
            for started in psutil.Process().children(recursive=True):  # the side's own processes, too
                with contextlib.suppress(psutil.NoSuchProcess):
                    started.kill()
            raise
    if process.returncode:
        print(f"{', '.join(names)}: {faults.strip()[-3000:]}", file=sys.stderr)
        raise SystemExit(2)
    return [json.loads(line) for line in told.splitlines()[-rounds:]]


def _environment() -> dict[str, str]:
    """As many threads for every side, whatever the library takes by itself."""
    threads = str(len(os.sched_getaffinity(0)))
    return os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}


def sides_of(group: Group) -> list[str]:
    return list(dict.fromkeys([group.side, *(peer.side for peer in group.peers)]))


def run_group(group: Group, number: int, setting: Setting, kept: Path, commit: str) -> dict[str, Figures]:
    """Every side's figures of one round, each in a fresh process; kept."""
    path = kept / f"{group.side}-{number}.json"
    if path.is_file() and (told := json.loads(path.read_text()))["commit"] == commit:
        return told["sides"]
    found = {side: run_sides([side], setting)[0][side] for side in _turned(sides_of(group), number)}
    kept.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"commit": commit, "sides": found}, indent=1))
    draft.replace(path)
    return found


def rows(group: Group, rounds: list[dict[str, Figures]], cpu: bool, setting: Setting) -> list[dict]:
    """The group's rows of peers.json, with the spread and, in seconds or MiB, the medians of both sides."""
    told = []
    for peer in group.peers:
        theirs, ours = (_by_cpu(figure) if cpu else figure for figure in (peer.figure, peer.ours))
        ratios = [found[peer.side][theirs] / found[group.side][ours] for found in rounds]
        ratio = statistics.median(ratios)
        row = {
            "work": peer.work.format(classes=setting.classes),
            "peer": peer.name,
            "ratio": round(ratio, 3),
            "goal": peer.goal,
        }
        row |= {"met": ratio >= peer.goal, "spread": [round(min(ratios), 3), round(max(ratios), 3)]}
        of = {"ours": (group.side, ours), "theirs": (peer.side, theirs)}
        row |= {
            key: float(f"{statistics.median(f[side][figure] for f in rounds):.4g}")
            for key, (side, figure) in of.items()
        }
        if setting.cuda:
            row |= {"device": setting.device, "dtype": setting.dtype}
        told.append(row)
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
    parser.add_argument("--cpu", action="store_true", help="ratios of CPU time")
    parser.add_argument("--again", action="store_true", help="forget finished rounds")
    parser.add_argument("--together", action="store_true", help="a group's sides in one process, as on a GPU")
    parser.add_argument("--out", type=Path, help="default: reports/peers.json where all is measured on the CPU")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    add_flags(parser)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, given(options), options.rounds)
        return 0
    cuda = options.device == "cuda"
    possible = BOTH_PRECISIONS if options.dtype != "float32" else ON_GPU if cuda else tuple(GROUPS)
    wanted = options.only or list(possible)
    if absent := sorted(set(wanted) - set(possible)):
        parser.error(f"not on {options.device} in {options.dtype}: {', '.join(absent)}")

    from peer_inputs import make_inputs

    work = ROOT / ".work/peers"
    mode = "cuda" if cuda else "quick" if options.quick else "full"
    inputs, kept, commit = options.inputs or work / f"inputs-{mode}", work / mode, repository.commit()
    photos = 0 if cuda else PHOTOS_QUICK if options.quick else PHOTOS
    make_inputs(inputs, photos)
    setting = replace(given(options), inputs=inputs, classes=min(options.classes, 4 if options.quick else 12))
    count = 1 if options.quick else options.rounds
    print(
        f"{count} round(s), {'CPU time' if options.cpu else 'time'}, commit {commit}, {platform.machine()} x "
        f"{len(os.sched_getaffinity(0))}, load before {os.getloadavg()[0]:.1f}, {options.device}, {options.dtype}\n"
    )
    print("| work | peer | ratio | spread | goal |\n|---|---|---|---|---|")
    told = []
    for name in wanted:
        group = GROUPS[name]
        if cuda or options.together:
            rounds = run_sides(sides_of(group), setting, count)
        else:
            if options.again:
                for path in kept.glob(f"{group.side}-[0-9]*.json"):
                    path.unlink()
            rounds = [run_group(group, n, setting, kept, commit) for n in range(count)]
        part = rows(group, rounds, options.cpu, setting)
        show(part)
        told += part
        if options.out:
            options.out.write_text(json.dumps(told, indent=1) + "\n")
    other = options.out or options.quick or options.cpu or options.only or options.together or cuda
    if not (other or options.dtype != "float32"):
        (ROOT / "reports/peers.json").write_text(json.dumps(told, indent=1) + "\n")
    return 0 if all(row["met"] for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
