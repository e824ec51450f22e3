"""The model registry."""

from __future__ import annotations

from pathlib import Path

from partsynth.errors import UserError
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.query import get_run
from partsynth.tracking.store import client, import_mlflow, model_name, tracking_uri
from partsynth.tracking.takedown import require_untouched


def register_model(
    root: Path,
    run_id: str,
    card: str,
    alias: str = "champion",
    model: str | None = None,
    metrics: dict[str, float] | None = None,
    servable: str | None = None,
) -> str:
    """Register a run's model under an alias, with its model card and data digests; returns the version.

    The same model again moves the alias and renews the card instead of making another version.

    Parameters
    ----------
    servable : id of a logged model of the run, which becomes the version's source; None = the run's artifacts
        ``model/``, weights that only partsynth loads. It takes the place of such a version.

    Raises
    ------
    UserError
        where the run did not finish, was deleted or replaced by a rerun, logged no model, or was trained on a
        photograph that was taken down.
    """
    mlflow, store, model = import_mlflow(), client(root), model or model_name(root)
    run = get_run(root, run_id)
    if run.deleted:
        raise UserError(f"run {run_id} cannot be registered: it was deleted in MLflow (restore it in the UI)")
    if run.status != "FINISHED" or not run.live:
        raise UserError(f"run {run_id} cannot be registered: it is {run.status}{'' if run.live else ' and replaced'}")
    require_untouched(run)
    if not store.list_artifacts(run_id, "model"):
        raise UserError(f"run {run_id} logged no model")
    try:
        store.get_registered_model(model)
    except mlflow.MlflowException:
        store.create_registered_model(model, description="SupCon encoders and linear classifiers of used parts")
    source = f"{run.artifact_uri}/model"
    if servable is not None:
        source = store.get_logged_model(servable).artifact_location
    of_run = [v for v in store.search_model_versions(f"name = '{model}'") if v.run_id == run_id]
    known = [v for v in of_run if servable is None or v.source == source]
    if known:
        version = max(known, key=lambda v: int(v.version)).version
    else:
        version = store.create_model_version(model, source=source, run_id=run_id, model_id=servable).version
    store.update_model_version(model, version, description=card)
    Artifacts(run.artifact_uri, tracking_uri(root)).add_files({"model_card.md": card.encode()})
    tags = {f"data.{item.path}": item.digest or "unknown" for item in run.inputs}
    tags |= {key: run.tags.get(key, "") for key in ("setup", "seed", "fingerprint", "git_commit", "base_sha256")}
    tags |= {f"metric.{key}": repr(float(value)) for key, value in (metrics or {}).items()}
    for key, value in tags.items():
        store.set_model_version_tag(model, version, key, value)
    store.set_registered_model_alias(model, alias, version)
    return str(version)
