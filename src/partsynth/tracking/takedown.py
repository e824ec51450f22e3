"""Runs whose data was taken down: tagged in MLflow, without aliases in its registry, without their contact sheets."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from partsynth.errors import UserError
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.query import model_versions, open_reader
from partsynth.tracking.store import client, tracking_uri
from partsynth.tracking.views import RunView

TAKEDOWN = "partsynth.takedown"  # tag: sha256 of the photographs that were taken down, separated by commas
SHEETS = "sheets"  # artifacts: contact sheets of training images
EXAMPLES = ("input_example.json", "serving_input_example.json")  # of logged models: a validation image


@dataclass(frozen=True)
class Artifact:
    """A file of MLflow's that shows an image."""

    owner: str  # run id, or logged model's id
    address: str  # of the owner's artifacts
    path: str


def require_untouched(run: RunView) -> None:
    """
    Raises
    ------
    UserError
        where a photograph that the run was trained on was taken down.
    """
    if taken := run.tags.get(TAKEDOWN):
        raise UserError(
            f"run {run.run_id} ({run.name}) was trained on a photograph that was taken down ({_short(taken)}; tag "
            f"{TAKEDOWN}): dvc repro trains without it, then take the new run"
        )


def shown_in(root: Path, runs: Collection[str], images: Collection[bytes]) -> list[Artifact]:
    """The artifacts of these runs that show training images, or have one of ``images`` (files' bytes) as example."""
    reader = open_reader(root)
    if reader is None:
        return []
    found = []
    for run_id in sorted(runs):
        if (run := reader.run(run_id)) is None:
            continue
        artifacts = Artifacts(run.artifact_uri, tracking_uri(root))
        found += [Artifact(run_id, run.artifact_uri, path) for path in artifacts.names(SHEETS)]
    for model_id, address in logged_models(root, runs):
        artifacts = Artifacts(address, tracking_uri(root))
        for name in EXAMPLES:
            data = artifacts.read(name) or b""
            if any(base64.b64encode(image) in data for image in images):
                found.append(Artifact(model_id, address, name))
    return found


def logged_models(root: Path, runs: Collection[str]) -> Iterator[tuple[str, str]]:
    """(id, address) of the logged models of these runs."""
    from mlflow.exceptions import MlflowException

    store = client(root)
    for run_id in sorted(runs):
        with contextlib.suppress(MlflowException):  # a run that the store does not know
            experiment = store.get_run(run_id).info.experiment_id
            for model in store.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"):
                yield model.model_id, model.artifact_location


def aliases_of(root: Path, runs: Collection[str]) -> list[tuple[str, str, str]]:
    """(registered model, version, alias) of these runs."""
    return [(v.model, v.version, alias) for v in model_versions(root) if v.run_id in runs for alias in v.aliases]


def take_down(root: Path, runs: Collection[str], photograph: str, artifacts: Collection[Artifact]) -> list[str]:
    """Tag the runs and their registered versions, take aliases off, remove the artifacts; the runs that MLflow does not
    know. Done again, it does nothing more.

    Aliases go first: nobody may load a model by one while the rest is under way.
    """
    reader, unknown = open_reader(root), []
    if reader is None:
        return sorted(runs)
    store = client(root)
    for model, _, alias in aliases_of(root, runs):
        store.delete_registered_model_alias(model, alias)
    for run_id in sorted(runs):
        if (run := reader.run(run_id)) is None:
            unknown.append(run_id)
        elif photograph not in (taken := [name for name in run.tags.get(TAKEDOWN, "").split(",") if name]):
            store.set_tag(run_id, TAKEDOWN, ",".join([*taken, photograph]))
    for version in model_versions(root):
        if version.run_id in runs:
            store.set_model_version_tag(version.model, version.version, TAKEDOWN, photograph)
    for artifact in artifacts:
        Artifacts(artifact.address, tracking_uri(root)).remove(artifact.path)
    return unknown


def _short(taken: str) -> str:
    return ", ".join(f"sha256 {name[:8]}..." for name in taken.split(","))
