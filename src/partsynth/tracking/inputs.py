"""Data sets as MLflow keeps them: name, path and DVC's md5."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.lineage.digests import md5_file
from partsynth.lineage.graph import covers, digest_of, read_lock
from partsynth.lineage.objects import Objects
from partsynth.tracking.store import import_mlflow


@dataclass(frozen=True)
class DataInput:
    """A data set that a run used; ``digest`` (DVC's md5, a folder's ends in .dir) is looked up in dvc.lock if None."""

    name: str
    path: str  # relative to the repository's root, with slashes
    digest: str | None = None
    context: str = "training"


@functools.cache
def _source_class() -> type:
    """The class is made on first use: importing this module must not import mlflow."""
    from mlflow.data.dataset_source import DatasetSource

    class DvcDatasetSource(DatasetSource):
        """A file or folder kept by DVC, named by its path and md5: it reads back whatever the workspace holds now."""

        def __init__(self, path: str, md5: str, root: str | None = None) -> None:
            self.path, self.md5, self.root = path, md5, root

        @staticmethod
        def _get_source_type() -> str:
            return "dvc"

        def load(self, destination: str | None = None) -> Path:
            """Check the data out by hash from cache or remote, every file verified; returns where it lies."""
            target = Path(destination or tempfile.mkdtemp(prefix="partsynth-")) / self.path
            with Objects(Path(self.root or ".")) as objects:
                objects.fetch([self.md5])
                objects.restore(self.md5, target)
            return target

        @staticmethod
        def _can_resolve(raw_source: Any) -> bool:
            return False  # a path alone does not say which version

        @classmethod
        def _resolve(cls, raw_source: Any) -> DvcDatasetSource:
            raise UserError("a DVC source is made from a path and an md5")

        def to_dict(self) -> dict[str, Any]:
            return {"path": self.path, "md5": self.md5, "root": self.root}

        @classmethod
        def from_dict(cls, source_dict: dict[Any, Any]) -> DvcDatasetSource:
            return cls(source_dict["path"], source_dict["md5"], source_dict.get("root"))

    DvcDatasetSource.__module__, DvcDatasetSource.__qualname__ = __name__, "DvcDatasetSource"
    return DvcDatasetSource


def __getattr__(name: str) -> Any:
    if name == "DvcDatasetSource":  # the entry point in group mlflow.dataset_source
        return _source_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def resolve_inputs(root: Path, inputs: list[DataInput], graph: dict[str, Any]) -> list[DataInput]:
    """Fill in digests, and add the data sets among the run's ancestors that the caller did not name.

    A plain file's digest is that of its bytes; a folder's is taken from dvc.lock.
    """
    stages = graph.get("stages", {})
    locked = read_lock(root)
    resolved = []
    for item in inputs:
        digest = item.digest
        if digest is None:
            path = root / item.path
            digest = md5_file(path) if path.is_file() else digest_of({**locked, **stages}, item.path)
        resolved.append(DataInput(item.name, item.path, digest, item.context))
    named = {item.path for item in inputs}
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}
    direct = {dep["path"] for dep in stages.get(graph.get("stage"), {}).get("deps", [])}
    for path, md5 in outs.items():
        is_set = path in ("data/real", "models/tokens") or covers("data/augmented", path)
        is_table = path in direct and covers("data/selected", path)  # which pictures, in which role
        if (is_set or is_table) and path not in named:
            context = "tokens" if path == "models/tokens" else "training"
            name = "selected" if is_table else path.rpartition("/")[2]
            resolved.append(DataInput(name, path, md5, context))
    return sorted(resolved, key=lambda item: item.path)


def dataset_inputs(root: Path, inputs: list[DataInput]) -> list[Any]:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    made = []
    for item in inputs:
        source = _source_class()(item.path, item.digest or "", str(lineage_git.home(root)))
        dataset = MetaDataset(source, name=item.name, digest=item.digest or "unknown")
        made.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", item.context)]))
    return made


def log_inputs(store: Any, run_id: str, inputs: list[Any], tries: int = 5) -> None:
    """MLflow looks for a data set and adds it where missing, in two steps: of two runs that begin together one fails,
    and finds the other's when it tries again."""
    mlflow = import_mlflow()
    for left in reversed(range(tries)):
        try:
            store.log_inputs(run_id, datasets=inputs)
            return
        except mlflow.MlflowException:
            if not left:
                raise
