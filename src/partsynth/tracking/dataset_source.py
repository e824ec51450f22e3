"""Data sets kept by DVC, as MLflow reads them back: the entry point of its group ``mlflow.dataset_source``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from partsynth.errors import UserError
from partsynth.lineage.objects import Objects


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
