"""Data sets as MLflow keeps them: name, path and DVC's md5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.lineage import git as lineage_git
from partsynth.lineage.digests import md5_file
from partsynth.lineage.graph import StageGraph, covers, digest_of, read_lock
from partsynth.store.layout import AUGMENTED, REAL, SELECTED, TOKENS

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONTEXT = "mlflow.data.context"  # MLflow's own tag of a data set: what a run used it for
TRIES = 5  # at logging the data sets of a run


@dataclass(frozen=True)
class DataInput:
    """A data set that a run used; ``digest`` (DVC's md5, a folder's ends in .dir) is looked up in dvc.lock if None."""

    name: str
    path: str  # relative to the repository's root, with slashes
    digest: str | None = None
    context: str = "training"


def resolve_inputs(root: Path, inputs: Sequence[DataInput], graph: StageGraph) -> list[DataInput]:
    """Fill in digests, and add the data sets among the run's ancestors that the caller did not name; by path.

    A plain file's digest is that of its bytes; a folder's is taken from dvc.lock.
    """
    stages, own = graph["stages"], graph["stage"]
    locked = read_lock(root)
    resolved = []
    for item in inputs:
        digest = item.digest
        if digest is None:
            file = root / item.path
            digest = md5_file(file) if file.is_file() else digest_of({**locked, **stages}, item.path)
        resolved.append(DataInput(item.name, item.path, digest, item.context))
    named = {item.path for item in inputs}
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}
    direct = {dep["path"] for dep in stages.get(own or "", {}).get("deps", [])}
    for path, md5 in outs.items():
        is_set = path in (REAL, TOKENS) or covers(AUGMENTED, path)
        is_table = path in direct and covers(SELECTED, path)  # which images, in which role
        if (is_set or is_table) and path not in named:
            context = "tokens" if path == TOKENS else "training"
            name = "selected" if is_table else path.rpartition("/")[2]
            resolved.append(DataInput(name, path, md5, context))
    return sorted(resolved, key=lambda item: item.path)


def log_inputs(store: MlflowClient, run_id: str, root: Path, inputs: Sequence[DataInput]) -> None:
    """Add data sets to a run.

    MLflow looks for a data set and adds it where missing, in two steps: of two runs that begin together one fails,
    and finds the other's when it tries again.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    from partsynth.tracking.dataset_source import DvcDatasetSource

    home, kept = str(lineage_git.home(root)), []
    for item in inputs:
        source = DvcDatasetSource(item.path, item.digest or "", home)
        dataset = Dataset(item.name, item.digest or "unknown", source._get_source_type(), source.to_json())
        kept.append(DatasetInput(dataset, [InputTag(CONTEXT, item.context)]))
    for left in reversed(range(TRIES)):
        try:
            store.log_inputs(run_id, datasets=kept)
            return
        except MlflowException:
            if not left:
                raise
