"""Artifacts of runs, by their address.

The client's own calls take a run's id and remember its folder: two copies of a project in one process, whose runs have
the same ids, would write into each other's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from partsynth.errors import UserError
from partsynth.store.addresses import masked

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


class Artifacts:
    """The artifacts of the run at ``artifact_uri``; paths and folders are relative to it, with slashes."""

    def __init__(self, artifact_uri: str, tracking_uri: str) -> None:
        self.artifact_uri, self.tracking_uri = artifact_uri, tracking_uri

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, a local one's without MLflow; None where it is missing."""
        try:
            if (folder := self._local_folder()) is not None:
                return (folder / path).read_bytes()
        except OSError:
            return None
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as copy:
            try:
                return Path(self._repository().download_artifacts(path, copy)).read_bytes()
            except (MlflowException, OSError):
                return None

    def names(self, folder: str) -> list[str]:
        """The files in a folder, by their paths; none where there is no such folder."""
        from mlflow.exceptions import MlflowException

        try:
            return sorted(item.path for item in self._repository().list_artifacts(folder) if not item.is_dir)
        except (MlflowException, OSError):
            return []

    def remove(self, path: str) -> None:
        """Take a file away for good; one that is not there is no fault.

        Raises
        ------
        UserError
            where the store of artifacts does not let it be removed.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._repository().delete_artifacts(path)
        except FileNotFoundError:
            return
        except (MlflowException, NotImplementedError, OSError) as error:
            raise UserError(f"artifact {path} below {masked(self.artifact_uri)} cannot be removed: {error}") from None

    def add(self, path: Path, folder: str = "") -> None:
        """A file, or a folder under its name with all below it."""
        if path.is_dir():
            self.add_all(path, f"{folder}/{path.name}".lstrip("/"))
        else:
            self._repository().log_artifact(str(path), folder or None)

    def add_all(self, source: Path, folder: str) -> None:
        """All that lies below ``source``."""
        self._repository().log_artifacts(str(source), folder or None)

    def add_files(self, files: dict[str, bytes], folder: str = "") -> None:
        """Files of these names and bytes."""
        with tempfile.TemporaryDirectory() as made:
            for name, data in files.items():
                Path(made, name).parent.mkdir(parents=True, exist_ok=True)
                Path(made, name).write_bytes(data)
            self.add_all(Path(made), folder)

    def _repository(self) -> ArtifactRepository:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.artifact_uri, tracking_uri=self.tracking_uri)

    def _local_folder(self) -> Path | None:
        parts = urlsplit(self.artifact_uri)
        return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") and not parts.netloc else None
