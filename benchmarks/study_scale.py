"""Studies by many workers: 8 of which two are killed against one alone, on a journal and on PostgreSQL.

    python benchmarks/study_scale.py [--trials 16] [--workers 8] [--steps 40] [--fresh]

Each study is a real one (`partsynth study`, MLflow runs and all) on the tests' small project, its trials trainings of a
network of 1,000 weights: what is measured is what studies cost beside training. Two of the many workers get SIGKILL in
the middle of a trial. Then every trial must be there once: as many complete as were asked for, each with one MLflow run
of the same figures, none running or waiting, the killed trials done again with the same parameters.

Throughput is trials per minute from the first trial's start to the last one's end, so without the processes' start;
the machine's cores limit it, so the CPU time of a trial stands beside it (of all processes, their starts included). A
study that was measured is not measured again (.work/study-scale keeps it; ``--fresh`` deletes it). Writes
reports/study-scale.json and its table into docs/studies.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import repository
from repository import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from helpers import postgres, small_project, studies

KILLED = 2
DOC, BEGIN, END = ROOT / "docs/studies.md", "<!-- benchmarks/study_scale.py -->", "<!-- its end -->"
JOURNAL = ".work/study.journal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--json", type=Path, default=ROOT / "reports/study-scale.json")
    given = parser.parse_args()
    work = ROOT / ".work/study-scale"
    if given.fresh:
        shutil.rmtree(work, ignore_errors=True)
    binaries = postgres.find()
    if binaries is None:
        print("PostgreSQL is left out: there is no server here (apt-get install postgresql)")
    rows = []
    for kind in ("journal", *(["postgresql"] if binaries else [])):
        for workers in (1, given.workers):
            kept = work / f"{kind}-{workers}-{given.trials}-{given.steps}.json"
            if not kept.is_file():
                server = postgres.serve(binaries) if binaries and kind != "journal" else contextlib.nullcontext(JOURNAL)
                work.mkdir(parents=True, exist_ok=True)
                with server as storage, tempfile.TemporaryDirectory() as folder:
                    options = {"trials": given.trials, "steps": given.steps, "storage": storage}
                    root = small_project.copy(small_project.finished(work), Path(folder) / "project")
                    told = measure(root, options, workers, KILLED if workers > KILLED else 0)
                kept.write_text(json.dumps({"storage": kind} | told) + "\n")
            rows.append(json.loads(kept.read_text()))
            print(rows[-1], flush=True)
    told = {
        "command": f"python benchmarks/study_scale.py --trials {given.trials} --workers {given.workers} "
        f"--steps {given.steps}",
        "commit": ", ".join(sorted({row["commit"] for row in rows})),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        "results": rows,
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(told, indent=1) + "\n")
    write_table(told)


def measure(root: Path, options: dict[str, Any], workers: int, killed: int) -> dict[str, Any]:
    """One study in a finished project; fails where a trial is lost or there twice."""
    load, before = os.getloadavg()[0], _cpu()
    process = studies.start(root, workers, **options)
    victims = _kill(process, root, options, killed)
    told, _ = process.communicate(timeout=3600)
    if process.returncode:
        raise SystemExit(f"the study failed: {told[-3000:]}")
    cpu = _cpu() - before
    data = studies.check_agreement(root, options, options["trials"])
    for number, wanted in victims.items():
        again = [t.params for t in data.trials if t.retry_of == number]
        if again != [wanted]:
            raise SystemExit(f"trial {number}, whose worker was killed, was done again as {again}, not as {wanted}")
    trials = [t for t in _trials(root, options) if t.state.name == "COMPLETE"]
    span = max(t.datetime_complete for t in trials) - min(t.datetime_start for t in trials)
    return {
        "workers": workers,
        "killed": len(victims),
        "trials": len(trials),
        "seconds": round(span.total_seconds(), 1),
        "trials_per_minute": round(60 * len(trials) / span.total_seconds(), 2),
        "cpu_seconds_per_trial": round(cpu / len(trials), 2),
        "load_before": round(load, 1),
        "commit": repository.commit(repository.MARKED),
    }


def _kill(process: subprocess.Popen[str], root: Path, options: dict[str, Any], count: int) -> dict[int, Any]:
    """SIGKILL to ``count`` workers, each in the middle of a trial; the trials' numbers and parameters."""
    victims: dict[int, Any] = {}
    dead: set[int] = set()
    while len(victims) < count:
        if process.poll() is not None:
            raise SystemExit(
                f"the study ended before {count} workers could be killed: {process.communicate()[0][-3000:]}"
            )
        for trial in _trials(root, options):
            busy = trial.state.name == "RUNNING" and {"worker", "mlflow_run_id"} <= trial.user_attrs.keys()
            pid = int(trial.user_attrs["worker"].split(":")[1]) if busy else 0
            if busy and pid not in dead and len(victims) < count:
                os.kill(pid, signal.SIGKILL)
                dead.add(pid)
                victims[trial.number] = trial.params
        time.sleep(0.2)
    return victims


def _trials(root: Path, options: dict[str, Any]) -> list[Any]:
    from partsynth.errors import UserError
    from partsynth.study.storage import load_study

    with contextlib.suppress(UserError):
        return load_study(small_project.study_params(**options).study, root).get_trials(deepcopy=False)
    return []


def _cpu() -> float:
    """Seconds of ended children and theirs, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_table(told: dict[str, Any]) -> None:
    lines = [
        BEGIN,
        f"`{told['command']}`, commit {told['commit']}, {told['machine']}:",
        "",
        "| storage | workers | killed | complete | trials per minute | CPU of a trial | machine's load before |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in told["results"]:
        cells = [r["storage"], r["workers"], r["killed"], r["trials"], r["trials_per_minute"]]
        cells += [f"{r['cpu_seconds_per_trial']} s", r["load_before"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    text = DOC.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2] if rest else "\n"
    DOC.write_text(head.rstrip("\n") + "\n\n" + "\n".join([*lines, END]) + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
