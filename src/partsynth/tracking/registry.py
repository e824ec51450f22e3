"""The model registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.tracking.query import exists, get_run, quoted
from partsynth.tracking.store import MODEL, client, import_mlflow


def register_model(
    root: Path,
    run_id: str,
    card: str,
    alias: str = "champion",
    model: str = MODEL,
    metrics: dict[str, float] | None = None,
) -> str:
    """Register a run's logged model under an alias, with its model card and data digests; returns the version.

    The same run again moves the alias and renews the card instead of making another version.

    Raises
    ------
    UserError
        where the run did not finish, was replaced by a rerun, or logged no model.
    """
    mlflow = import_mlflow()
    store = client(root)
    run = get_run(root, run_id)
    if run.status != "FINISHED" or not run.live:
        raise UserError(f"run {run_id} cannot be registered: it is {run.status}{'' if run.live else ' and replaced'}")
    if not store.list_artifacts(run_id, "model"):
        raise UserError(f"run {run_id} logged no model")
    try:
        store.get_registered_model(model)
    except mlflow.MlflowException:
        store.create_registered_model(model, description="SupCon encoders and linear classifiers of used parts")
    known = [v for v in store.search_model_versions(f"name = '{model}'") if v.run_id == run_id]
    if known:
        version = max(known, key=lambda v: int(v.version)).version
    else:
        source = f"{store.get_run(run_id).info.artifact_uri}/model"
        version = store.create_model_version(model, source=source, run_id=run_id).version
    store.update_model_version(model, version, description=card)
    store.log_text(run_id, card, "model_card.md")
    tags = {f"data.{item.path}": item.digest or "unknown" for item in run.inputs}
    tags |= {key: run.tags.get(key, "") for key in ("setup", "seed", "fingerprint", "git_commit", "base_sha256")}
    tags |= {f"metric.{key}": repr(float(value)) for key, value in (metrics or {}).items()}
    for key, value in tags.items():
        store.set_model_version_tag(model, version, key, value)
    store.set_registered_model_alias(model, alias, version)
    return str(version)


def model_versions(root: Path) -> list[dict[str, Any]]:
    """Registered models: ``model``, ``version``, ``run_id``, ``aliases``."""
    if not exists(root):
        return []
    store = client(root)
    found = []
    for registered in store.search_registered_models():
        aliases: dict[str, list[str]] = {}
        for alias, version in registered.aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        for version in store.search_model_versions(f"name = '{quoted(registered.name)}'"):
            number = str(version.version)
            found.append(
                {
                    "model": registered.name,
                    "version": number,
                    "run_id": version.run_id,
                    "aliases": sorted(aliases.get(number, [])),
                }
            )
    return found
