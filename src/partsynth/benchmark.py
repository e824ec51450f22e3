"""Replicates of the whole pipeline, and what they say together: `partsynth benchmark`.

A replicate is a DVC project of its own in the work folder, made from a preset: its seed redraws training and validation
pictures, splits, tokens, sets and initialisation, while rendered test pictures are the same in all (render.test_seed).
DVC decides what is still good, so a stopped benchmark goes on where it was. All replicates share one DVC cache and one
MLflow store. Every figure of the report is computed from the joined per-picture predictions.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from partsynth import __version__, comparison, lineage, project
from partsynth.params import Params, load_all, read_yaml
from partsynth.records import (
    UserError,
    read_json,
    sha256_file,
    write_bytes_atomic,
    write_json,
    write_text_atomic,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SECONDS = "seconds.json"  # in a replicate's folder: what its stages took
TARGET = "evaluate"  # what is made of each replicate, with all it needs; pages for people are not
PARTS = ("val", "test", "shifted", "near_test", "far_test")  # whose predictions the figures need
UNSCORED = ("val", f"set_{comparison.STUDY_SET}")  # of these the confidence alone
IDENTITY = ("-c", "user.name=partsynth", "-c", "user.email=partsynth@localhost")  # of commits in replicates
CODE = ("src", "presets", "dvc.yaml", "models/base")  # of the repository: what a benchmark's figures depend on


@dataclass(frozen=True)
class Replicate:
    """One project to be run: ``setups`` in the benchmark's order; ``shots`` is None where all pictures are used."""

    folder: str
    seed: int
    shots: int | None
    setups: tuple[str, ...]


# --- plan: values in, values out --------------------------------------------------------------------------------------


def plan(params: Params, quick: bool) -> list[Replicate]:
    """All replicates in the order they run: whole ones first, then the few-shot ones."""
    wanted = params.benchmark
    prefix = "quick-" if quick else ""
    found = []
    count = wanted.quick.replicates if quick else wanted.replicates.main
    for number, seed in enumerate(wanted.seeds[:count]):
        setups = [n for n, s in wanted.setups.items() if number < getattr(wanted.replicates, s.kind)]
        if quick:
            chosen = wanted.quick.setups or [n for n, s in wanted.setups.items() if s.kind == "main"]
            setups = [n for n in wanted.setups if n in chosen]
        found.append(Replicate(f"{prefix}all-seed{seed}", seed, None, tuple(setups)))
    few = tuple(n for n in wanted.setups if n in wanted.few_shot.setups)
    count = min(count, wanted.few_shot.replicates)
    for shots in wanted.quick.shots if quick else wanted.few_shot.shots:
        found += [Replicate(f"{prefix}shots{shots}-seed{s}", s, shots, few) for s in wanted.seeds[:count]]
    return found


def needed(params: Params, setups: Sequence[str]) -> tuple[list[str], list[str]]:
    """The setups whose tables ``setups`` are made of, themselves among them, and the sets that these add."""
    chain = set(setups)
    for name in reversed(params.benchmark.setups):  # later ones build on earlier ones
        if name in chain and (onto := params.benchmark.setups[name].onto):
            chain.add(onto)
    tables = [name for name in params.benchmark.setups if name in chain]
    added = {params.benchmark.setups[name].set for name in tables}
    return tables, [name for name in params.sets if name in added]


def parameters(raw: dict[str, Any], params: Params, replicate: Replicate, data: Path | None) -> dict[str, Any]:
    """The replicate's params.yaml from the preset's ``raw`` content: seeds, shots, and what its setups need."""
    tables, sets = needed(params, replicate.setups)
    # DVC wants every section to be there, if only empty
    sections = [name for name in Params.model_fields if name not in ("benchmark", "study")]
    made = {name: dict(raw.get(name) or {}) for name in sections}
    for section in ("render", "ingest", "tokens", "generate"):
        made[section]["seed"] = replicate.seed
    if data is not None:
        made["ingest"]["path"] = os.fspath(data.resolve())
    if replicate.shots is not None:
        made["ingest"] |= {"shots": replicate.shots, "val_shots": replicate.shots}
    made["sets"] = {name: raw["sets"][name] for name in sets}
    made["select"] = {name: raw["select"][name] for name in tables}
    made["matrix"] = {"setups": list(replicate.setups), "seeds": [replicate.seed]}
    return made


def changes(params: Params) -> dict[tuple[str, str], tuple[str, str]]:
    """(setup, the setup it is compared with) -> (what the sentences call it, its role), from the preset."""
    setups, found = params.benchmark.setups, {}
    for name, setup in setups.items():
        for base in setup.bases:
            other, select = setups[base], params.select[name]
            variation = select.train is not None and (other.onto, other.set) == (setup.onto, setup.set)
            alone = base == setup.onto or variation  # else it has one thing in the other's place
            what = setup.adds if alone else f"{setup.adds} instead of {_lower(other.adds)}"
            found[name, base] = what, select.role
    return found


def _lower(text: str) -> str:
    """``Band negatives`` -> ``band negatives``, but ``ID augmentations`` as it is."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


# --- run --------------------------------------------------------------------------------------------------------------


def run(
    preset: str,
    quick: bool = False,
    data: Path | None = None,
    work: Path = Path(".work/benchmark"),
    out: Path = Path("reports"),
    base: Path | None = None,
    root: Path | None = None,
) -> Path:
    """Run what is missing of a preset's replicates, then write ``out``/<preset>.{json,md,png} and the predictions.

    Raises
    ------
    UserError
        for a preset without a benchmark, faults of the preset or of ``data``, a work folder in use, and where a
        replicate's pipeline fails (what it had finished is kept).
    """
    root, known = (root or Path.cwd()).resolve(), project.presets()
    if preset not in known:
        raise UserError(f"no preset {preset!r}; there are {', '.join(known)}")
    params, raw = load_all(known[preset]), read_yaml(known[preset])
    if not params.benchmark.setups:
        there = [name for name, path in known.items() if read_yaml(path).get("benchmark")]
        raise UserError(f"the preset {preset} has no section benchmark; these have: {', '.join(there) or 'none'}")
    replicates, work = plan(params, quick), work.resolve() / preset
    work.mkdir(parents=True, exist_ok=True)
    home, done, began = lineage.home(root), [], time.monotonic()
    with _alone(work), _terminable():
        for number, replicate in enumerate(replicates, start=1):
            folder = work / replicate.folder
            print(f"benchmark: [{number}/{len(replicates)}] {replicate.folder}, setups {', '.join(replicate.setups)}")
            started = time.monotonic()
            prepare(folder, preset, raw, params, replicate, data, base, shared_cache(home, work))
            if params.ingest.source == "rendered":
                take_over(folder, sorted(path for path in work.iterdir() if path.is_dir()))
            reproduce(folder, started, _environment(home, work, preset, replicate))
            done.append(replicate)
            print(f"benchmark: {progress(replicates, done, time.monotonic() - began)}", flush=True)
    command = ["partsynth", "benchmark", "--preset", preset, *(["--quick"] if quick else [])]
    command += ["--data", os.fspath(data)] if data is not None else []
    return report(params, replicates, work, out, preset + ("-quick" if quick else ""), shlex.join(command))


def progress(replicates: Sequence[Replicate], done: Sequence[Replicate], seconds: float) -> str:
    """Time taken and time left; what comes before a replicate's trainings costs about as much as six of them."""

    def weight(some: Sequence[Replicate]) -> int:
        return sum(6 + len(r.setups) for r in some)

    left = seconds * (weight(replicates) - weight(done)) / weight(done)
    return f"{len(done)} of {len(replicates)} replicates, {seconds / 60:.1f} min, about {left / 60:.0f} min left"


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another benchmark is running in {work}: wait for it, or name another --work") from None
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and a closed terminal end this process as Ctrl-C does, so that it ends its children."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shared_cache(home: Path, work: Path) -> Path:
    """The DVC cache of the repository whose MLflow store is used, so that audits there find a replicate's data."""
    if (home / ".dvc").is_dir():
        asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=home, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip():
            return home / asked.stdout.strip()
    return work / "cache"


def prepare(
    folder: Path,
    preset: str,
    raw: dict[str, Any],
    params: Params,
    replicate: Replicate,
    data: Path | None,
    base: Path | None,
    cache: Path,
) -> None:
    """The replicate's project as the preset now wants it: made where it is missing, else brought up to date."""
    if not folder.exists():
        project.init(folder, preset, data, base, cache)
    project.upgrade(folder)  # stages whose code changed run again
    tables, sets = needed(params, replicate.setups)
    told = f"# Replicate {replicate.folder} of the preset {preset}, written by `partsynth benchmark`.\n"
    texts = {
        "params.yaml": told + yaml.safe_dump(parameters(raw, params, replicate, data), sort_keys=False),
        "dvc.yaml": project.graph_for(params, tables),
    }
    for name, text in texts.items():
        if (folder / name).read_text() != text:
            write_text_atomic(folder / name, text)
    load_all(folder / "params.yaml")
    for stale in (folder / "data/augmented").glob("*/manifest.csv"):
        if stale.parent.name not in sets:  # a set that the preset no longer has
            shutil.rmtree(stale.parent)
    git = ["git", *IDENTITY]
    subprocess.run([*git, "add", *texts, project.STAMP], cwd=folder, check=True, capture_output=True)
    subprocess.run([*git, "commit", "--quiet", "-m", told.strip("# \n")], cwd=folder, capture_output=True)


def take_over(folder: Path, others: Sequence[Path]) -> None:
    """Copy an earlier replicate's renders, that of the same seed first: the stage keeps those that fit and makes the
    rest."""
    raw = folder / "data/raw"
    finished = [other for other in others if other != folder and (other / "data/raw/manifest.csv").is_file()]
    if raw.exists() or not finished:
        return
    seed = folder.name.rpartition("-")[2]
    source = next((other for other in finished if other.name.endswith(f"-{seed}")), finished[0])
    draft = raw.with_name("raw.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source / "data/raw", draft, ignore=shutil.ignore_patterns("manifest.csv"))
    os.replace(draft, raw)


def _environment(home: Path, work: Path, preset: str, replicate: Replicate) -> dict[str, str]:
    """One MLflow store and experiment, and one place for bytecode: a stage that compiles its libraries takes 10 s more."""
    shots = "" if replicate.shots is None else f"-{replicate.shots}-shots"
    left_out = ("DVC_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {
        "PYTHONPYCACHEPREFIX": os.fspath(work / "pycache"),
        "PARTSYNTH_ROOT": os.fspath(home),
        "MLFLOW_EXPERIMENT_NAME": f"partsynth-{preset}{shots}",
        "PATH": os.pathsep.join([os.fspath(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def reproduce(folder: Path, started: float, environment: dict[str, str]) -> None:
    """`dvc repro` in a replicate, its output passed on, the seconds of each stage that ran kept in ``SECONDS``.

    Raises
    ------
    UserError
        where it fails; the times of what was finished are kept.
    """
    path = folder / SECONDS
    known = read_json(path) if path.is_file() else {"stages": {}, "total": 0.0}
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", TARGET], cwd=folder, env=environment, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_interruptible,
    )  # fmt: skip
    clock, code = Clock(), None
    try:
        for line in process.stdout:
            clock.tell(line)
            if line.strip():
                print(f"  {line.rstrip()}", flush=True)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        ran = clock.stop(whole=code == 0)
        if ran:
            total = known["total"] + time.monotonic() - started
            write_json(path, {"stages": known["stages"] | ran, "total": total, "git_commit": commit()})
    if code:
        raise UserError(
            f"dvc repro failed in {folder} (its output is above). Mend it and start the benchmark again: it goes on "
            "where it was"
        )


def _interruptible() -> None:
    """A shell's background jobs ignore SIGINT, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen) -> None:
    """Interrupt DVC and the stage it runs, which keeps what it can go on from; kill them where they do not end."""
    for number, patience in ((signal.SIGINT, 30), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


class Clock:
    """Seconds of each stage, from the lines that `dvc repro` prints."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None

    def tell(self, line: str) -> None:
        found = re.match(r"(Running stage|Stage) '([^']+)'", line)
        if found:
            self._end()
            if found.group(1) == "Running stage":
                self._running = found.group(2), time.monotonic()

    def stop(self, whole: bool) -> dict[str, float]:
        """All stages that ended; the last one only where the whole command succeeded."""
        if whole:
            self._end()
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}

    def _end(self) -> None:
        if self._running:
            self.seconds[self._running[0]] = time.monotonic() - self._running[1]
        self._running = None


def commit() -> str:
    """The commit that the package runs from, with ``-dirty`` where code or presets have uncommitted changes."""
    root = project.checkout()
    named = lineage.git(root, "rev-parse", "HEAD") if root else None
    if named is None:
        return "unknown (an installed package)"
    dirty = lineage.git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return named.decode().strip() + ("-dirty" if dirty else "")


# --- join -------------------------------------------------------------------------------------------------------------


def join(params: Params, replicates: Sequence[Replicate], work: Path) -> pd.DataFrame:
    """The replicates' predictions as one table, with two more columns, as comparison.summarise_replicates reads it.

    Rows of one picture follow one another, which is what compresses well. Left out are parts that only choices were
    made on (OOD validation) and scores of pictures of which the confidence alone is told.
    """
    import pandas as pd

    from partsynth.kernel import ood
    from partsynth.steps import evaluate

    against: dict[str, list[str]] = {}
    for name, base in changes(params):
        against.setdefault(name, []).append(base)
    order = {name: position for position, name in enumerate(params.benchmark.setups)}
    tables = []
    for replicate in replicates:
        path = work / replicate.folder / "reports/metrics/predictions.csv"
        table = evaluate.read_predictions(path)
        if set(table.seed) != {replicate.seed} or set(table.setup) != set(replicate.setups):
            raise UserError(f"{path} has other seeds or setups than the replicate: start the benchmark again")
        table.insert(2, "shots", replicate.shots or 0)
        table.insert(3, "against", [";".join(against.get(name, [])) for name in table.setup])
        tables.append(table)
    whole = [t for t, r in zip(tables, replicates, strict=True) if r.shots is None]
    study = f"set_{comparison.STUDY_SET}"
    # that of edits is a mean over replicates, so all of them must have the set
    parts = [*PARTS, *([study] if all((t.part == study).any() for t in whole) else [])]
    rank = {part: position for position, part in enumerate(("test", *(p for p in parts if p != "test")))}
    table = pd.concat([t[t.part.isin(parts) & ((t.shots == 0) | (t.part != study))] for t in tables])
    table.loc[table.part.isin(UNSCORED), list(ood.SCORES)] = float("nan")
    keys = [table.part.map(rank), table.path, table.shots, table.setup.map(order), table.seed]
    return table.iloc[pd.DataFrame({str(i): k.to_numpy() for i, k in enumerate(keys)}).sort_values(
        [str(i) for i in range(len(keys))], kind="stable"
    ).index].reset_index(drop=True)  # fmt: skip


def compressed(table: pd.DataFrame) -> bytes:
    """The table as CSV in gzip: the same bytes for the same table."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return gzip.compress(text.encode(), 9, mtime=0)


# --- report -----------------------------------------------------------------------------------------------------------


def report(
    params: Params, replicates: Sequence[Replicate], work: Path, out: Path, stem: str, command: str
) -> Path:
    """Join, summarise, write; returns the .md. All figures are computed from the predictions as they were written."""
    from partsynth.steps import evaluate

    predictions = out / f"{stem}-predictions.csv.gz"
    write_bytes_atomic(predictions, compressed(join(params, replicates, work)))
    summary = comparison.summarise_replicates(
        evaluate.read_predictions(predictions), params.evaluate, changes(params)
    )
    lines = [_lineage(work / r.folder, r) for r in replicates]
    summary |= {
        "predictions": predictions.name,
        "predictions_sha256": sha256_file(predictions),
        "kinds": {name: params.benchmark.setups[name].kind for name in summary["order"]},
        "compared": [list(pair) for pair in changes(params) if "-".join(pair) in summary["differences"]],
        "shots_of_all": _shots_of_all(lines),
        "targets": targets(params, summary["differences"]),
        "benchmark": {
            "command": command,
            "git_commit": ", ".join(dict.fromkeys(str(line["git_commit"]) for line in lines)),
            "partsynth_version": __version__,
            "machine": machine(),
            "minutes": round(sum(line["seconds"]["total"] for line in lines) / 60, 1),
            "replicates": lines,
        },
    }
    write_json(out / f"{stem}.json", summary)
    write_bytes_atomic(out / f"{stem}.png", picture(summary))
    write_text_atomic(out / f"{stem}.md", page(summary, stem))
    print(f"benchmark: wrote {out / stem}.md, .json, .png and {predictions}")
    return out / f"{stem}.md"


def targets(params: Params, differences: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The preset's targets, each with the difference found and ``met``: None where it, or its interval, was not
    measured."""
    found = []
    for target in params.benchmark.targets:
        difference = differences.get(f"{target.setup}-{target.against}", {}).get(target.measure)
        met = None
        if difference is not None and (target.low is None or difference["low"] is not None):
            checks = [(target.mean, difference["mean"]), (target.low, difference["low"])]
            met = all(reached >= wanted for wanted, reached in checks if wanted is not None)
        found.append(target.model_dump() | {"difference": difference, "met": met})
    return found


def _lineage(folder: Path, replicate: Replicate) -> dict[str, Any]:
    """What a replicate's figures are made of and what it took."""
    summary, seconds = read_json(folder / "reports/metrics/summary.json"), read_json(folder / SECONDS)
    runs = {s: read_json(folder / f"models/supcon/{s}/{replicate.seed}/run.json") for s in replicate.setups}
    return {
        "folder": replicate.folder,
        "seed": replicate.seed,
        "shots": replicate.shots,
        "git_commit": seconds["git_commit"],
        "mlflow_runs": {setup: run["run_id"] for setup, run in runs.items()},
        "manifests": summary["data"]["manifests"],
        "pictures": {part: about["pictures"] for part, about in summary["data"]["parts"].items()},
        "classes": summary["data"]["parts"]["train"]["classes"],
        "training": summary["data"]["training"],
        "choices": summary["choices"],
        "predictions_sha256": summary["predictions_sha256"],
        "files": {name: sha256_file(folder / name) for name in ("params.yaml", "dvc.yaml", "dvc.lock")},
        "seconds": {"stages": seconds["stages"], "total": round(seconds["total"], 1)},
    }


def _shots_of_all(lines: list[dict[str, Any]]) -> float:
    """Training pictures a class where all are used, on average."""
    whole = [line for line in lines if line["shots"] is None]
    return round(sum(line["pictures"]["train"] / line["classes"] for line in whole) / len(whole), 1)


def machine() -> str:
    """Processor and cores, no names."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
        model = found.group(1) if found else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}"


MEASURES = ("accuracy_test", "accuracy_shifted", "near_ood_auroc", "near_ood_fpr95", "far_ood_auroc")
BESIDE = ("macro_f1_test", "knn_accuracy_test", "ece_test", "id_confidence", "ood_confidence", "confidence_gap")
HEADS = {"main": "Setups", "control": "Controls", "ablation": "Ablations"}


def page(summary: dict[str, Any], stem: str) -> str:
    """The report in Markdown: every number and sentence from ``summary``."""
    about, kinds = summary["benchmark"], summary["kinds"]
    confidence = f"{100 * summary['confidence']:g} %"
    whole = sum(line["shots"] is None for line in about["replicates"])
    lines = [
        f"# {stem}: do augmentations help, and can bad ones help as negatives?",
        "",
        f"    {about['command']}",
        "",
        f"Commit {about['git_commit']}, partsynth {about['partsynth_version']}; "
        f"{about['minutes']:g} minutes of work on {about['machine']}.",
        "",
        f"{whole} replicates. Each redraws training and validation pictures, tokens, augmentation sets, thresholds and "
        f"initialisation; setups are compared within a replicate. Brackets: {confidence} t interval over replicates. "
        f"Figures in per cent, differences in points. Predictions of every picture: `{summary['predictions']}` "
        f"(sha256 `{summary['predictions_sha256']}`); `partsynth evaluate --from-predictions {summary['predictions']}` "
        "computes the tables again.",
        "",
        "No test figure was used for a choice: neighbours of the kNN score are chosen on OOD *validation* pictures in "
        "every replicate, thresholds on validation pictures; test parts are looked at after all training.",
    ]
    lines += _targets(summary)
    for kind, head in HEADS.items():
        names = [name for name in summary["order"] if kinds[name] == kind]
        if not names:
            continue
        lines += ["", f"## {head}", "", *_figures(summary, names, MEASURES)]
        if kind == "main":
            lines += ["", *_figures(summary, names, BESIDE)]
        pairs = [pair for pair in summary["compared"] if kinds[pair[0]] == kind]
        if pairs:
            lines += ["", *_differences(summary, pairs), "", *_sentences(summary, names, every=kind == "main")]
    lines += _few_shot(summary) + _absent(summary)
    shown = "Differences with intervals" + (", and the few-shot curve" if summary["few_shot"] else "")
    lines += ["", f"![{shown}]({stem}.png)", "", *_costs(about["replicates"])]
    return "\n".join(lines) + "\n"


def _titles(summary: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["title"] for entry in summary["metrics"]}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _figures(summary: dict[str, Any], names: list[str], measures: Sequence[str]) -> list[str]:
    titles = _titles(summary)
    shown = [m for m in measures if any(m in summary["setups"][name] for name in names)]
    rows = [
        [f"`{n}`", str(len(summary["seeds"][n])), *(_cell(summary["setups"][n].get(m)) for m in shown)] for n in names
    ]
    return _table(["setup", "replicates", *(titles[m] for m in shown)], rows)


def _differences(summary: dict[str, Any], pairs: Sequence[Sequence[str]]) -> list[str]:
    titles, rows = _titles(summary), []
    shown = [m for m in MEASURES if any(m in summary["differences"]["-".join(pair)] for pair in pairs)]
    for a, b in pairs:
        found = summary["differences"][f"{a}-{b}"]
        rows.append([f"`{a}` less `{b}`", *(_cell(found.get(m), sign=True) for m in shown)])
    return _table(["difference", *(titles[m] for m in shown)], rows)


def _targets(summary: dict[str, Any]) -> list[str]:
    if not summary["targets"]:
        return []
    titles, rows = _titles(summary), []
    for target in summary["targets"]:
        wanted = [(target["mean"], "mean"), (target["low"], "lower end")]
        rows.append([
            f"`{target['setup']}` less `{target['against']}`, {titles.get(target['measure'], target['measure'])}",
            ", ".join(f"{name} at least {100 * value:g}" for value, name in wanted if value is not None),
            _cell(target["difference"], sign=True),
            {True: "met", False: "**missed**", None: "not measured"}[target["met"]],
        ])  # fmt: skip
    head = ["difference", "target, set before the run", "found", ""]
    return ["", "## Targets", "", *_table(head, rows)]


def _sentences(summary: dict[str, Any], names: list[str], every: bool) -> list[str]:
    """The verdicts, the measure that a change is meant for in bold; or those of that measure alone."""
    chosen = [s for s in summary["verdict"] if s["setup"] in names and (every or s["main"])]
    return [f"- **{s['text']}**" if every and s["main"] else f"- {s['text']}" for s in chosen]


def _cell(found: dict[str, Any] | None, sign: bool = False) -> str:
    if found is None:
        return "-"
    form = "+.1f" if sign else ".1f"
    mean = f"{100 * found['mean']:{form}}"
    return mean if found["low"] is None else f"{mean} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"


def _few_shot(summary: dict[str, Any]) -> list[str]:
    if not summary["few_shot"]:
        return []
    titles, rows = _titles(summary), []
    shown = [m for m in MEASURES if m in titles]
    for shots, of in _curve(summary).items():
        rows += [
            [f"{shots:g}", f"`{n}`", str(len(of["seeds"][n])), *(_cell(of["setups"][n].get(m)) for m in shown)]
            for n in next(iter(summary["few_shot"].values()))["order"]
            if n in of["setups"]
        ]
    lines = ["", "## Few shots", ""]
    lines += ["Tokens, sets and thresholds see these pictures only: as many for validation as for training.", ""]
    lines += _table(["pictures a class", "setup", "replicates", *(titles[m] for m in shown)], rows)
    for shots, of in summary["few_shot"].items():
        lines += ["", f"{shots} a class:", "", *_sentences(of, of["order"], every=False)]
    return lines


def _curve(summary: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """Pictures a class -> summary, ascending; all pictures last."""
    few = {float(shots): of for shots, of in summary["few_shot"].items()}
    return {shots: few[shots] for shots in sorted(few)} | {summary["shots_of_all"]: summary}


def _absent(summary: dict[str, Any]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for metric, reason in summary["absent"].items():
        reasons.setdefault(reason, []).append(comparison.TITLES[metric][0])
    return [line for reason, names in reasons.items() for line in ("", f"Absent: {', '.join(names)} ({reason}).")]


def _costs(replicates: list[dict[str, Any]]) -> list[str]:
    """Minutes by stage, all replicates together."""
    minutes: dict[str, float] = {}
    for line in replicates:
        for name, seconds in line["seconds"]["stages"].items():
            stage = name.partition("@")[0]
            minutes[stage] = minutes.get(stage, 0) + seconds / 60
    told = ", ".join(f"{stage} {spent:.1f}" for stage, spent in minutes.items())
    return [f"Minutes by stage: {told}. Git commits, MLflow runs, manifests' hashes and choices: `replicates` in the JSON."]


# --- picture ----------------------------------------------------------------------------------------------------------


def picture(summary: dict[str, Any]) -> bytes:
    """PNG: differences with their intervals, and the few-shot curve where there is one."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from partsynth import plots

    with matplotlib.rc_context(plots.STYLE):
        made = _drawn(summary)
        FigureCanvasAgg(made)
        buffer = io.BytesIO()
        made.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _drawn(summary: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    from partsynth.plots import COLOURS, MARKERS

    titles, pairs = _titles(summary), summary["compared"]
    shown = [m for m in ("accuracy_shifted", "accuracy_test", "near_ood_auroc") if m in titles]
    height = 1.4 + 0.3 * len(pairs)
    made = Figure(figsize=(11, height + (3.2 if summary["few_shot"] else 0)), layout="constrained", facecolor="white")
    upper = made
    if summary["few_shot"]:
        upper, lower = made.subfigures(2, 1, height_ratios=[height, 3.2])
        curve = _curve(summary)
        first = next(iter(summary["few_shot"].values()))["order"]
        for axis, metric in zip(lower.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for i, name in enumerate(first):
                found = {shots: of["setups"][name][metric] for shots, of in curve.items() if name in of["setups"]}
                means = [100 * f["mean"] for f in found.values()]
                axis.plot(list(found), means, color=COLOURS[i], marker=MARKERS[i], label=name)
            axis.set(xscale="log", xlabel="pictures a class", title=f"{titles[metric]} (%)")
            axis.set_xticks(list(curve), [f"{shots:g}" for shots in curve])
            axis.minorticks_off()
        axis.legend()
    for axis, metric in zip(upper.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        axis.axvline(0, color="#6b7280", linewidth=0.8)
        for row, pair in enumerate(pairs):
            found = summary["differences"]["-".join(pair)].get(metric)
            if found is None:
                continue
            axis.plot([100 * v for v in found["values"]], [row] * len(found["values"]), "o", color="#9aa1aa", ms=3)
            if found["low"] is not None:
                axis.plot([100 * found["low"], 100 * found["high"]], [row, row], color=COLOURS[0], linewidth=1.8)
            axis.plot([100 * found["mean"]], [row], "D", color=COLOURS[0], ms=5)
        axis.set_yticks(range(len(pairs)), [f"{a} \N{MINUS SIGN} {b}" for a, b in pairs])
        axis.set(title=f"{titles[metric]} (points)", ylim=(len(pairs) - 0.5, -0.5))
    return made
