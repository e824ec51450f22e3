"""Every stage killed, interrupted, run on a full disk and without write permission, then run again.

    python benchmarks/kill_matrix.py        # some 20 minutes of two idle cores; writes docs/kills.md
    python benchmarks/kill_matrix.py --stages train --moments 2 --out /tmp/kills.md

A small project is run once undisturbed. Each case starts from it without one stage's products, disturbs the stage,
starts it again and compares every product with the undisturbed run: equal hashes, no file more or less, no process
left, one finished MLflow run and none that still runs. Moments are drawn by a seed: the first two in the imports of a
program as a shell starts it, the others in its work (that process is forked from one that has the imports, which
changes nothing but the time that they take). Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import repository
from repository import ROOT

sys.path.insert(0, os.fspath(ROOT / "tests"))

from helpers import forked, whole_project
from helpers.forked import Running, listing

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT}
COLD = 2  # moments in a program's imports
PATIENCE = 900.0  # seconds until a command counts as hanging
DVC = [sys.executable, "-m", "dvc"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One command that is disturbed."""

    name: str
    stage: str = ""  # in DVC
    arguments: list[str] = field(default_factory=list)  # where it is no stage
    program: tuple[str, ...] = ()  # instead of partsynth
    folders: tuple[str, ...] = ()  # that it writes to, for permissions
    products: tuple[str, ...] = ()  # that are not there yet; where none are named, the folders
    change: str = ""  # a line of params.yaml that is edited before
    volatile: tuple[str, ...] = ()  # other bytes in every run, by nature: there or not is compared alone


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one case."""

    target: str
    trouble: str  # a signal, "disk", "permission" or "control"
    moment: int
    where: str  # when, in words; or how much space was left; or which folder
    fault: str  # nothing where all was well
    said: str = ""  # its last line


def targets() -> list[Target]:
    """Render, the pipeline's stages, and what people run on a finished project."""
    supcon, later = "models/supcon/real/0", "models/supcon/real_id_negatives/0"
    return [
        Target(
            name="render", arguments=["render", "--params", "render.yaml", "--out", "data/raw"], folders=("data/raw",)
        ),
        Target(name="ingest", stage="ingest", folders=("data/real", "data/ood")),
        Target(name="tokens", stage="tokens", folders=("models/tokens",)),
        Target(
            name="calibrate", stage="calibrate@id", folders=("data/strengths",), products=("data/strengths/id.json",)
        ),
        Target(name="generate", stage="generate@id", folders=("data/augmented/id",)),
        Target(
            name="quality",
            stage="quality@id",
            folders=("data/quality", "reports/quality/id"),
            products=("data/quality/id.csv", "reports/quality/id"),
        ),
        Target(name="select", stage="select@real", folders=("data/selected",), products=("data/selected/real.csv",)),
        Target(
            name="train",  # the first: the store is made too
            stage="train@real-0",
            folders=(supcon, "models/runs/real"),
            products=("models/supcon", "models/runs", "mlflow.db", "mlartifacts"),
        ),
        Target(
            name="train, later",
            stage="train@real_id_negatives-0",
            folders=(later,),
            products=(later, "models/runs/real_id_negatives/0.json"),
        ),
        Target(name="evaluate", stage="evaluate", folders=("reports/metrics", "reports/plots")),
        Target(name="report", stage="report", folders=("reports",), products=("reports/index.html",)),
        Target(name="dvc repro", arguments=["repro", "generate@near_ood"], program=(*DVC,), change="strength: 0.5"),
        Target(name="study", arguments=["study", "--trials", "2"], volatile=(".work/study.journal",)),
        Target(name="register", arguments=["register"]),
        Target(name="export", arguments=["export", "--out", "exported"], volatile=EXPORTED),
    ]


EXPORTED = ("exported",)
RENDER = """\
render:
  size: 32
  samples: 4
  classes: [gear_t12_h4_u1]
  workers: 2
  instances: {train: 1, val: 1, test: 1, shifted: 1, near_val: 1, near_test: 1, far_val: 1, far_test: 1}
"""


class Matrix:
    """The prepared snapshots and the folder that cases are run in.

    Parameters
    ----------
    work : everything lies below it
    seed : of the moments
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        self.place = work / "case" / "project"  # the same for all: paths are part of no product, but of messages
        self.log = work / "command.log"
        self.results = work / "results.jsonl"
        self.times: dict[str, list[float]] = {}  # target -> seconds: imports and all, work alone
        self.references: dict[str, dict[str, Any]] = {}

    # --- preparation ------------------------------------------------------------------------------------------------

    def prepare(self, wanted: Sequence[Target]) -> None:
        """A finished project, and for each target what it makes of that project without its products; times are kept.
        For stages alone the project goes no further than they do."""
        stamp, finished = self.work / "prepared.json", self.work / "finished"
        if not (finished / "done").is_file():
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            root = whole_project.make(finished)
            stages = {target.stage for target in wanted}
            all_of_it = not all(target.stage or target.name == "render" for target in wanted)
            for stage, command in whole_project.commands(finished).items():
                if stages or all_of_it:
                    self._finish(forked.forked(command, root, self.log))
                stages.discard(stage)
            (root / "render.yaml").write_text(RENDER)
            if all_of_it:
                subprocess.run([*DVC, "commit", "-f", "-q"], cwd=root, check=True, capture_output=True)
            (finished / "done").touch()
        if not (self.work / "case").exists():
            shutil.copytree(finished, self.work / "case", symlinks=True)
        if stamp.is_file():
            kept = json.loads(stamp.read_text())
            self.times, self.references = kept["times"], kept["references"]
        for target in wanted:
            if target.name not in self.times:
                self._undisturbed(target, finished / "project")
                stamp.write_text(json.dumps({"times": self.times, "references": self.references}))

    def _undisturbed(self, target: Target, finished: Path) -> None:
        print(f"undisturbed: {target.name}", flush=True)
        before = self.snapshot(target)
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(finished, before, symlinks=True)
        for name in [*(target.products or target.folders), *([".work"] if target.stage else [])]:
            path = before / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if target.change:
            params = before / "params.yaml"
            params.write_text(params.read_text().replace(target.change, f"{target.change}5"))
        self.restore(target)
        begun = time.monotonic()
        self._finish(self.start(target, warm=False))
        imports_too = time.monotonic() - begun
        self.references[target.name] = json.loads(json.dumps(self.state(target)))
        self.times[target.name] = [imports_too, 0.0]
        if not target.program:
            modules = self.work / "modules"
            self.restore(target)
            begun = time.monotonic()
            self._finish(forked.forked(self.arguments(target), self.place, self.log, modules=os.fspath(modules)))
            self.times[target.name][1] = min(time.monotonic() - begun, imports_too)
            forked.warm(modules.read_text().splitlines())

    def _finish(self, running: Running) -> None:
        if (code := running.wait()) != 0:
            raise SystemExit(f"the undisturbed project fails ({code}):\n{running.text()}")

    def snapshot(self, target: Target) -> Path:
        return self.work / "before" / target.name.replace(" ", "-")

    def restore(self, target: Target) -> None:
        if self.place.exists():
            _writable(self.place)
            shutil.rmtree(self.place)
        shutil.copytree(self.snapshot(target), self.place, symlinks=True)

    def start(self, target: Target, warm: bool = True, before: Callable[[], None] | None = None) -> Running:
        if target.program or not warm:
            return forked.cold(self.arguments(target), self.place, self.log, target.program)
        return forked.forked(self.arguments(target), self.place, self.log, before=before)

    def arguments(self, target: Target) -> list[str]:
        return target.arguments or whole_project.commands(self.work / "finished")[target.stage]

    # --- comparison -------------------------------------------------------------------------------------------------

    def state(self, target: Target) -> dict[str, Any]:
        """All that is compared."""
        files = {
            key: "" if any(key == name or key.startswith(f"{name}/") for name in target.volatile) else digest
            for key, digest in listing(self.place).items()
        }
        store = mlflow_state(self.place)
        if target.name == "study" and store:  # a trial that was killed is tried again under another number
            store["live"] = sorted(re.sub(r"\d+", "N", name) for name, _ in store["live"])
        return {"files": files, "mlflow": store, "study": study_state(self.place)}

    def differences(self, target: Target) -> list[str]:
        """What is not as after the undisturbed run."""
        wanted, found = self.references[target.name], json.loads(json.dumps(self.state(target)))
        faults = []
        for word, keys in (
            ("missing", wanted["files"].keys() - found["files"].keys()),
            ("left over", found["files"].keys() - wanted["files"].keys()),
            ("other bytes", {k for k, v in wanted["files"].items() if found["files"].get(k, v) != v}),
        ):
            if keys:
                faults.append(f"{word}: {_few(keys)}")
        faults += [
            f"{part}: {found[part]} instead of {wanted[part]}"
            for part in ("mlflow", "study")
            if found[part] != wanted[part]
        ]
        return faults

    def again(self, target: Target) -> list[str]:
        """Start it again, and compare."""
        running = self.start(target)
        code = running.wait(PATIENCE)
        if code is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return [f"started again it hangs: {_last(running)}"]
        if code != 0:
            return [f"started again it ends with {code}: {_last(running)}"]
        return self.differences(target)

    # --- the cases --------------------------------------------------------------------------------------------------

    def killed(self, target: Target, name: str, moment: int, moments: int) -> Outcome:
        """One signal at one moment."""
        draw = random.Random(f"{self.seed} {target.name} {name} {moment}").random()
        whole, work = self.times[target.name]
        imports = moment < min(COLD, moments - 1) and not target.program
        if target.program:
            share, span = (moment + draw) / moments, whole
        elif imports:
            share, span = (moment + draw) / COLD, max(0.1, whole - work)
        else:
            first = min(COLD, moments - 1)
            share, span = (moment - first + draw) / (moments - first), work
        for _ in range(4):
            self.restore(target)
            delay = share * span
            running = self.start(target, warm=not imports)
            code = running.wait(delay)
            if code is None:
                break
            span = 0.8 * (time.monotonic() - running.begun)  # faster than before: the moment lay behind its end
        if code is not None:
            where, faults = f"{delay:.2f} s: it had ended", self.differences(target)
            return Outcome(target=target.name, trouble=name, moment=moment, where=where, fault="; ".join(faults))
        if name == "SIGINT":
            os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all
        elif target.program:
            os.killpg(running.pid, signal.SIGKILL)
        else:
            os.kill(running.pid, signal.SIGKILL)
        code = running.wait(PATIENCE / 3)
        faults = []
        if code is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            faults.append("does not end")
        elif name == "SIGINT" and not target.program:
            if code not in (0, 130, -signal.SIGINT):
                faults.append(f"exit code {code}: {_last(running)}")
            if "Traceback" in running.text() and "partsynth/" in running.text():  # else Python itself was starting
                faults.append(f"traceback: {_last(running)}")
        said, text = _last(running), running.text()
        if faults:
            (self.work / f"{target.name}-{name}-{moment}.log").write_text(text)
        if orphans := _orphans(running.pid):
            faults.append(f"{len(orphans)} processes live on")
            for pid in orphans:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        ended = code == 0  # a Ctrl-C between fork and the first line of Python is nobody's
        faults += self.differences(target) if ended else self.again(target)
        where = f"{delay:.2f} s, {'imports' if imports else 'work'}{': it had ended' if ended else ''}"
        return Outcome(target=target.name, trouble=name, moment=moment, where=where, fault="; ".join(faults), said=said)

    def control(self, target: Target) -> Outcome:
        """Not disturbed at all: the comparison itself must hold."""
        self.restore(target)
        faults = self.again(target)
        return Outcome(target=target.name, trouble="control", moment=0, where="", fault="; ".join(faults))

    def full_disk(self, target: Target, moment: int, moments: int) -> Outcome:
        """The project on a small disk with a share of the space that the stage needs."""
        grown = _pages(self.references[target.name]["files"], self.snapshot(target), self.work)
        share = moment / moments
        disk = self.work / "disk"
        disk.mkdir(exist_ok=True)
        mine = Matrix(self.work, self.seed)
        mine.times, mine.references = self.times, self.references
        mine.place = disk / "project"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", os.fspath(disk)], check=True)
        try:
            shutil.copytree(self.work / "case" / "photos", disk / "photos")
            mine.restore(target)
            before = listing(mine.place)
            filler = disk / "filler"
            left = int(share * grown) // 4096 * 4096
            free = os.statvfs(disk).f_bavail * 4096 - left
            with open(filler, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(4096, free))
            running = mine.start(target)
            faults = self._refused(running, target, before, mine.place, ("No space left", "disk is full"))
            said = _last(running)
            filler.unlink()
            faults += mine.again(target)
        finally:
            subprocess.run(["umount", "-l", os.fspath(disk)], check=True)
        where = f"{left // 1024} of {grown // 1024} kB left"
        return Outcome(
            target=target.name, trouble="disk", moment=moment, where=where, fault="; ".join(faults), said=said
        )

    def no_permission(self, target: Target, moment: int, folder: str) -> Outcome:
        """Run by somebody who may write everything but one folder: root, without the right to pass over permissions."""
        self.restore(target)
        place = self.place / folder
        made = not place.exists()
        place.mkdir(parents=True, exist_ok=True)
        before = listing(self.place)
        for path in [place, *place.rglob("*")]:
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        running = self.start(target, before=_obey_permissions)
        faults = self._refused(running, target, before, self.place, (folder,))
        said = _last(running)
        _writable(self.place)
        if made and not any(place.iterdir()):
            place.rmdir()
        faults += self.again(target)
        return Outcome(
            target=target.name, trouble="permission", moment=moment, where=folder, fault="; ".join(faults), said=said
        )

    def _refused(
        self, running: Running, target: Target, before: dict[str, str], place: Path, words: Sequence[str]
    ) -> list[str]:
        """What is wrong with a run that could not write: it says so in one sentence, and leaves nothing half done."""
        code = running.wait(PATIENCE)
        if code is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return ["hangs"]
        if code == 0:
            return []  # it had what it needs
        text, faults = running.text(), []
        if code != 1:
            faults.append(f"exit code {code}")
        if "Traceback" in text:
            faults.append(f"traceback: {_last(running)}")
        elif not any(word in text for word in words):
            faults.append(f"does not name it: {_last(running)}")
        wanted, found = self.references[target.name]["files"], listing(place)
        half = [
            key
            for key, digest in found.items()
            if not key.startswith(".work/")
            and digest not in (before.get(key), wanted.get(key))
            and wanted.get(key) != ""
        ]
        if half or (half := [key for key in found if key.endswith(".tmp")]):
            faults.append(f"half written: {_few(half)}")
        return faults


def _obey_permissions() -> None:
    """Give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, and let no program that is started have them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    held = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    if libc.capget(header, held) or any(libc.prctl(24, number, 0, 0, 0) for number in (1, 2)):  # PR_CAPBSET_DROP
        raise OSError(ctypes.get_errno(), "capabilities")
    for place in range(3):
        held[place] &= ~0b110
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "capset")


# --- what is looked at ------------------------------------------------------------------------------------------------


def mlflow_state(root: Path) -> dict[str, Any]:
    """Of the project's store: runs that still run, live runs by name with their artifacts, registered versions."""
    path = root / "mlflow.db"
    if not path.is_file():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        rows = store.execute("select run_uuid, name, status, artifact_uri from runs where lifecycle_stage = 'active'")
        runs = rows.fetchall()
        gone = {row[0] for row in store.execute("select run_uuid from tags where key = 'superseded_by'")}
        versions = store.execute("select name, version from model_versions").fetchall()
        aliases = store.execute("select name, alias, version from registered_model_aliases").fetchall()
    live = sorted([name, _below(uri)] for run, name, status, uri in runs if status == "FINISHED" and run not in gone)
    known = {run for run, *_ in runs}
    folders = {p.name for p in (root / "mlartifacts").glob("*/*") if p.is_dir() and len(p.name) == 32}
    return {
        "running": sum(status == "RUNNING" for _, _, status, _ in runs),
        "live": live,
        "artifacts of no run": len(folders - known),
        "versions": sorted(map(list, versions)),
        "aliases": sorted(map(list, aliases)),
    }


def _below(uri: str) -> int:
    """How many artifacts a run has."""
    return sum(p.is_file() for p in Path(uri.removeprefix("file://")).rglob("*"))


def study_state(root: Path) -> dict[str, int]:
    """Trials of the study that run or are complete; others may be there or not."""
    path = root / ".work/study.journal"
    if not path.is_file():
        return {}
    from collections import Counter

    states: dict[int, int] = {}
    trial = 0
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["op_code"] == 4:  # a trial is created
            states[trial] = record.get("state", 0)
            trial += 1
        elif record["op_code"] == 6:  # it has another state
            states[record["trial_id"]] = record["state"]
    named = Counter({0: "running", 1: "complete"}.get(state, "") for state in states.values())
    return {name: named[name] for name in ("running", "complete")}


def _orphans(session: int) -> list[int]:
    """Who lives on, ten seconds later."""
    end = time.monotonic() + 10
    while (left := forked.session_of(session)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def _pages(files: dict[str, str], snapshot: Path, work: Path) -> int:
    """Bytes, in whole pages, of what a stage writes: files that are new or other than in the snapshot."""
    before = listing(snapshot)
    case = work / "finished" / "project"
    new = [key for key, digest in files.items() if before.get(key) != digest]
    sizes = [case.joinpath(key).stat().st_size if case.joinpath(key).is_file() else 4096 for key in new]
    store = 1 << 20 if any(key.startswith("models/runs") for key in new) else 0
    return sum(-(-size // 4096) * 4096 for size in sizes) + store


def _writable(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)


def _few(keys: Sequence[str] | Any) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _last(running: Running) -> str:
    lines = [line for line in running.text().splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:300] if lines else "nothing was said"


# --- the run ----------------------------------------------------------------------------------------------------------


def can_mount() -> bool:
    if os.getuid() != 0 or shutil.which("mount") is None:
        return False
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def cases(matrix: Matrix, wanted: Sequence[Target], moments: int) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """All cases by a name that says which one it is."""
    for target in wanted:
        yield f"{target.name} control", lambda t=target: matrix.control(t)
    for moment in sorted(range(moments), key=lambda m: m not in (0, COLD)):  # where it is stopped, it has some of all
        for target in wanted:
            for name in SIGNALS:
                yield (
                    f"{target.name} {name} {moment}",
                    lambda t=target, n=name, m=moment: matrix.killed(t, n, m, moments),
                )
    here = [t for t in wanted if not t.program]
    if can_mount():
        for target in here:
            for moment in range(3):
                yield f"{target.name} disk {moment}", lambda t=target, m=moment: matrix.full_disk(t, m, 3)
    else:
        print("no full disk: mounting a small one needs root")
    if os.getuid() == 0:
        for target in here:
            for moment, folder in enumerate(target.folders):
                yield (
                    f"{target.name} permission {moment}",
                    lambda t=target, m=moment, f=folder: matrix.no_permission(t, m, f),
                )
    else:
        print("no removed permission: changing the user needs root")


def run(
    work: Path, wanted: Sequence[Target], moments: int, seed: int, only: str = "", so_far: bool = False
) -> list[Outcome]:
    """Prepare, run what has not been run yet, and return all outcomes; they are kept in ``work/results.jsonl``.

    ``so_far``: run nothing, and return those that there are.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    os.environ |= {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "MLFLOW_DISABLE_TELEMETRY": "true"}
    matrix = Matrix(work, seed)
    if len(wanted) > 3 and not so_far:
        forked.warm()
    if not so_far:
        matrix.prepare(wanted)
    done: dict[str, Outcome] = {}
    if matrix.results.is_file():
        for line in matrix.results.read_text().splitlines():
            kept = json.loads(line)
            name = kept.pop("case")
            done[name] = Outcome(**kept)
    outcomes = []
    for name, case in cases(matrix, wanted, moments):
        if (only and only not in name) or (so_far and name not in done):
            continue
        if name not in done:
            done[name] = case()
            with open(matrix.results, "a") as file:
                file.write(json.dumps({"case": name, **asdict(done[name])}) + "\n")
            print(f"{name}: {done[name].where}: {done[name].fault or 'as undisturbed'}", flush=True)
        outcomes.append(done[name])
    return outcomes


def markdown(outcomes: Sequence[Outcome], command: str, commit: str, seed: int, total: int) -> str:
    """The page; ``total`` are the cases that there would be."""
    from tabulate import tabulate  # DVC brings it

    bad = [o for o in outcomes if o.fault]
    lines = [
        "# Kills, full disks, missing permissions",
        "",
        "A small project (drawn photographs, a Stable Diffusion of random weights, every stage of the package) is",
        "disturbed in each stage, started again, and compared with an undisturbed run: hashes of all files, leftovers,",
        "processes that live on, MLflow runs that still run or stand there twice.",
        "",
        f"Command `{command}`, commit {commit}, seed {seed}: {len(outcomes)} of {total} cases run, {len(bad)} faults.",
        "",
    ]
    for title, troubles, about in (
        (
            "Signals",
            tuple(SIGNALS),
            "Seconds after the start (i: in the imports). SIGKILL goes to the process alone, under "
            "`dvc repro` to all; SIGINT to all, as Ctrl-C does.",
        ),
        ("Full disk", ("disk",), "Free kB when the stage starts, of those that it needs."),
        ("No permission to write", ("permission",), "The folder that must not be written, and what is said."),
    ):
        chosen = [o for o in outcomes if o.trouble in troubles]
        if not chosen:
            continue
        lines += [f"## {title}", "", about, ""]
        rows = []
        for target in dict.fromkeys(o.target for o in chosen):
            for trouble in troubles:
                own = [o for o in chosen if (o.target, o.trouble) == (target, trouble)]
                own.sort(key=lambda o: o.moment)
                if own and trouble in SIGNALS:
                    rows.append([target, trouble, *map(_cell, own)])
                elif trouble == "disk":
                    rows.append([target, *map(_cell, own)])
                else:
                    rows += [[target, f"`{o.where}`", _cell(o, "")] for o in own]
        width = max(map(len, rows))
        rows = [[*row, *[""] * (width - len(row))] for row in rows]
        head = {"Signals": ["stage", "signal"], "Full disk": ["stage"]}.get(title, ["stage", "folder", "then"])
        lines += [tabulate(rows, headers=[*head, *[""] * (width - len(head))], tablefmt="github"), ""]
    if bad:
        lines += ["## Faults", "", *(f"- {o.target}, {o.trouble}, {o.where}: {o.fault}" for o in bad), ""]
    return "\n".join(lines)


def _cell(outcome: Outcome, where: str | None = None) -> str:
    shown = outcome.where if where is None else where
    shown = shown.replace(", work", "").replace(", imports", " i").replace(" of ", " / ").replace(" left", "")
    return f"{shown} {'**fault**' if outcome.fault else 'equal'}".strip()


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/partsynth-kills"), help="folder for projects and results"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs/kills.md", help="the page")
    parser.add_argument("--stages", nargs="*", default=None, help="these alone")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--so-far", action="store_true", help="run nothing: write the page of what has been run")
    return parser.parse_args(given)


def main() -> None:
    given = arguments()
    wanted = [t for t in targets() if given.stages is None or t.name in given.stages]
    outcomes = run(given.work, wanted, given.moments, given.seed, given.only, given.so_far)
    total = sum(1 for _ in cases(Matrix(given.work, given.seed), targets(), given.moments))
    told = " ".join(["python benchmarks/kill_matrix.py", *sys.argv[1:]])
    given.out.write_text(markdown(outcomes, told, repository.commit(), given.seed, total))
    bad = sum(bool(o.fault) for o in outcomes)
    print(f"{given.out}: {len(outcomes)} cases, {bad} faults")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
