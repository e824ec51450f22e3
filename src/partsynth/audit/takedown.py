"""A photograph and what was made from it, taken away for good: first a list of all of it, then, when asked, done.

The order makes an interrupted takedown safe to start again: params.yaml remembers it first, no alias leads to a model
of it from then on, remotes come before the cache that tells what they hold, the photograph's own file is the last.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.result import Fault, Result
from partsynth.audit.runs import all_runs
from partsynth.audit.source import trace_source
from partsynth.audit.takedown_record import record, source_folders
from partsynth.audit.takedown_search import Piece, Search, Traces, workspace_files
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.lineage.stores import Cache, Remote, Store
from partsynth.store.layout import SELECTED, Layout
from partsynth.tracking import takedown as mlflow_side

# below .work: edits to be judged, measures, unfinished trainings
CACHES = ("adapt", "attempts", "features", "packing", "tokens", "train")
TRAINED = ("trained_on_it", "trained_on_pictures_made_from_it", "trained_on_pictures_of_a_token_it_taught")


@dataclass(frozen=True)
class Plan:
    """All that a takedown finds."""

    root: Path
    photograph: dict[str, Any]
    files: list[tuple[Piece, Path]]  # here, in the order in which they go
    objects: dict[str, list[Piece]]  # store -> what goes from it
    kept: list[dict[str, Any]]  # objects that other images share
    runs: list[dict[str, Any]]  # affected
    artifacts: list[mlflow_side.Artifact]
    aliases: list[tuple[str, str, str]]
    tables: list[str]
    caches: list[Path]
    retrain: list[str]
    elsewhere: list[str]  # remotes that were not searched
    faults: list[Fault]

    @property
    def sha256(self) -> str:
        return self.photograph["source_sha256"]

    @property
    def trained(self) -> list[str]:
        """The runs that learned from it."""
        return _trained(self.runs)

    def as_json(self) -> dict[str, Any]:
        return {
            "photograph": self.photograph,
            "files": [{"kind": piece.kind, "path": piece.path} for piece, _ in self.files],
            "objects": {
                store: [{"kind": p.kind, "path": p.path, "md5": p.md5} for p in pieces]
                for store, pieces in self.objects.items()
            },
            "kept_because_others_share_the_bytes": self.kept,
            "caches": [path.relative_to(self.root).as_posix() for path in self.caches],
            "mlflow_artifacts": [{"of": item.owner, "path": item.path} for item in self.artifacts],
            "runs_to_tag": [run for run in self.runs if run["run_id"] in self.trained],
            "runs_that_watched_it": [run for run in self.runs if run["run_id"] not in self.trained],
            "aliases_taken_off": [f"{model} v{version} @{alias}" for model, version, alias in self.aliases],
            "tables_that_name_it": self.tables,
            "to_be_made_anew": ["dvc repro", *self.retrain],
            "remotes_not_searched": self.elsewhere,
        }


def purge(
    root: Path, what: str, *, remote: str | None = None, go: bool = False, date: str = "", reason: str = ""
) -> Result:
    """List what a takedown of one photograph would remove, or, with ``go``, remove it.

    Parameters
    ----------
    what : the framed image or the original photograph, by path or sha256.
    remote : a DVC remote whose objects go too.
    date : of the takedown, for the record (YYYY-MM-DD).
    reason : for the record; it goes into params.yaml.

    Raises
    ------
    UserError
        where no manifest knows the photograph, several fit, there is no such remote, or something cannot be removed.
    """
    root = root.resolve()
    with Objects(root) as objects:
        stores: list[Store] = [Cache(objects), *([Remote(objects, remote)] if remote is not None else [])]
        plan = _plan(root, what, stores, [name for name in objects.remotes if name != remote])
        if not go:
            return Result("source --purge (dry run)", {"done": False, **plan.as_json()}, plan.faults)
        recorded = record(root, plan.sha256, " ".join(filter(None, [date, reason])) or "taken down")
        unknown = mlflow_side.take_down(root, plan.trained, plan.sha256, plan.artifacts)
        for store in reversed(stores):
            for piece in plan.objects[store.name]:
                store.remove(piece.md5)
        for _, path in plan.files:
            path.unlink(missing_ok=True)
        for folder in plan.caches:
            shutil.rmtree(folder, ignore_errors=True)
    untagged = [
        Fault(run, "MLflow's store here does not know this run: purge where it is kept, too") for run in unknown
    ]
    data = {"done": True, "recorded_in_params": recorded or "before", **plan.as_json()}
    return Result("source --purge", data, [*plan.faults, *untagged])


def _plan(root: Path, what: str, stores: Sequence[Store], elsewhere: list[str]) -> Plan:
    found = trace_source(root, what)
    photograph = found.data["photograph"]
    traces = Traces(photograph["source_sha256"])
    traces.learn([p.read_bytes() for p in sorted(root.glob("data/**/manifest.csv")) if p.is_file()])
    search = Search(root, stores, traces)
    pieces, shared = search.objects()
    held = {store.name: store.holds(piece.md5 for piece in pieces) for store in stores}
    files = workspace_files(root, traces, source_folders(root))
    runs = found.data["runs"]
    trained = set(_trained(runs))
    images = [path.read_bytes() for piece, path in files if piece.kind == "framed"]
    images += [data for piece in pieces if piece.kind == "framed" and (data := search.read(piece.md5)) is not None]
    stages = {run.run_id: run.tags.get("stage", "").rpartition(":")[2] for run in all_runs(root) if run.live}
    tables = [p for p in sorted((root / SELECTED).glob("*.csv")) if _names(p, traces)]
    work = Layout(root).work
    return Plan(
        root=root,
        photograph=photograph,
        files=files,
        objects={store.name: [p for p in pieces if p.md5 in held[store.name]] for store in stores},
        kept=[
            {"md5": md5, "shared_with": paths}
            for md5, paths in sorted(shared.items())
            if any(store.holds([md5]) for store in stores)
        ],
        runs=runs,
        artifacts=mlflow_side.shown_in(root, {run["run_id"] for run in runs}, images),
        aliases=mlflow_side.aliases_of(root, trained),
        tables=[path.relative_to(root).as_posix() for path in tables],
        caches=[work / name for name in CACHES if (work / name).is_dir()],
        retrain=sorted({stages[run] for run in trained if stages.get(run)}),
        elsewhere=elsewhere,
        faults=found.faults,
    )


def _trained(runs: Sequence[dict[str, Any]]) -> list[str]:
    return [run["run_id"] for run in runs if any(run[use] for use in TRAINED)]


def _names(table: Path, traces: Traces) -> bool:
    text = table.read_text(encoding="utf-8", errors="replace")
    return any(sha256 in text for sha256 in (*traces.framed, *traces.synthetic))


def require_confirmed(answer: str, photograph: str) -> None:
    """
    Raises
    ------
    UserError
        where the answer is not the beginning of the photograph's sha256.
    """
    if len(answer) < 8 or not photograph.startswith(answer.strip().lower()):
        raise UserError(f"nothing was removed: {answer!r} is not the beginning of {photograph}")
