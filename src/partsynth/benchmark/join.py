"""All replicates' predictions in one table, summarised."""

from __future__ import annotations

import contextlib
import gzip
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth import __version__
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.evaluation.summary import STUDY_SET, summarise_replicates
from partsynth.store.files import read_json, write_bytes_atomic, write_json, write_text_atomic
from partsynth.store.hashing import sha256_file

if TYPE_CHECKING:
    import pandas as pd
from partsynth.benchmark.plan import PARTS, SECONDS, UNSCORED, Replicate, changes
from partsynth.reporting.benchmark import page, picture


def join(params: Params, replicates: Sequence[Replicate], work: Path) -> pd.DataFrame:
    """The replicates' predictions as one table, with two more columns, as comparison.summarise_replicates reads it.

    Rows of one picture follow one another, which is what compresses well. Left out are parts that only choices were
    made on (OOD validation) and scores of pictures of which the confidence alone is told.
    """
    import pandas as pd

    from partsynth.core.evaluation import ood
    from partsynth.evaluation.predictions import read_predictions

    against: dict[str, list[str]] = {}
    for name, base in changes(params):
        against.setdefault(name, []).append(base)
    order = {name: position for position, name in enumerate(params.benchmark.setups)}
    tables = []
    for replicate in replicates:
        path = work / replicate.folder / "reports/metrics/predictions.csv"
        table = read_predictions(path)
        if set(table.seed) != {replicate.seed} or set(table.setup) != set(replicate.setups):
            raise UserError(f"{path} has other seeds or setups than the replicate: start the benchmark again")
        table.insert(2, "shots", replicate.shots or 0)
        table.insert(3, "against", [";".join(against.get(name, [])) for name in table.setup])
        tables.append(table)
    whole = [t for t, r in zip(tables, replicates, strict=True) if r.shots is None]
    study = f"set_{STUDY_SET}"
    # that of edits is a mean over replicates, so all of them must have the set
    parts = [*PARTS, *([study] if all((t.part == study).any() for t in whole) else [])]
    rank = {part: position for position, part in enumerate(("test", *(p for p in parts if p != "test")))}
    table = pd.concat([t[t.part.isin(parts) & ((t.shots == 0) | (t.part != study))] for t in tables])
    table.loc[table.part.isin(UNSCORED), list(ood.SCORES)] = float("nan")
    keys = [table.part.map(rank), table.path, table.shots, table.setup.map(order), table.seed]
    return table.iloc[
        pd.DataFrame({str(i): k.to_numpy() for i, k in enumerate(keys)})
        .sort_values([str(i) for i in range(len(keys))], kind="stable")
        .index
    ].reset_index(drop=True)


def compressed(table: pd.DataFrame) -> bytes:
    """The table as CSV in gzip: the same bytes for the same table."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return gzip.compress(text.encode(), 9, mtime=0)


def report(params: Params, replicates: Sequence[Replicate], work: Path, out: Path, stem: str, command: str) -> Path:
    """Join, summarise, write; returns the .md. All figures are computed from the predictions as they were written."""
    from partsynth.evaluation.predictions import read_predictions

    predictions = out / f"{stem}-predictions.csv.gz"
    write_bytes_atomic(predictions, compressed(join(params, replicates, work)))
    summary = summarise_replicates(read_predictions(predictions), params.evaluate, changes(params))
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
