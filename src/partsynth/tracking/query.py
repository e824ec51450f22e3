"""What is stored of runs."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.store import EXPERIMENT, LIVE, MODEL, PARENT, client, import_mlflow, tracking_uri


@dataclass(frozen=True)
class RunView:
    """What is stored of one run."""

    run_id: str
    name: str
    status: str  # RUNNING | FINISHED | FAILED | KILLED
    experiment: str
    start_time: int  # milliseconds since 1970
    end_time: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    inputs: tuple[DataInput, ...] = field(default=())

    @property
    def live(self) -> bool:
        """Neither failed nor replaced by a rerun."""
        return self.status in LIVE and "superseded_by" not in self.tags


def find_runs(
    root: Path,
    *,
    fingerprint: str | None = None,
    setup: str | None = None,
    seed: int | None = None,
    digest: str | None = None,
    parent_run_id: str | None = None,
    name: str | None = None,
    live: bool = True,
    experiment: str | None = None,
) -> list[RunView]:
    """Runs, oldest first; ``digest`` is the md5 of a data set they used; ``live`` leaves failed and replaced ones out.

    All experiments are searched where ``experiment`` is None.
    """
    if not exists(root):
        return []
    store = client(root)
    experiments = store.search_experiments()
    chosen = {e.experiment_id: e.name for e in experiments if experiment in (None, e.name)}
    if not chosen:
        return []
    wanted = {
        "tags.fingerprint": fingerprint,
        "tags.setup": setup,
        "tags.seed": None if seed is None else str(seed),
        "datasets.digest": digest,
        f"tags.`{PARENT}`": parent_run_id,
        "attributes.run_name": name,
    }
    query = " and ".join(f"{key} = '{quoted(value)}'" for key, value in wanted.items() if value is not None)
    found, token = [], None
    while True:
        page = store.search_runs(
            list(chosen), filter_string=query, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            break
    views = [_view(run, chosen[run.info.experiment_id]) for run in found]
    return [view for view in views if view.live or not live]


def get_run(root: Path, name: str) -> RunView:
    """A run by its id, a registry alias (``champion`` or ``model@alias``), or the name of one live run.

    Raises
    ------
    UserError
        where there is none, or the name fits several.
    """
    mlflow = import_mlflow()
    if exists(root):
        store = client(root)
        with contextlib.suppress(mlflow.MlflowException):
            run = store.get_run(name)
            return _view(run, store.get_experiment(run.info.experiment_id).name)
        model, _, alias = name.rpartition("@")
        with contextlib.suppress(mlflow.MlflowException):
            return get_run(root, store.get_model_version_by_alias(model or MODEL, alias).run_id)
        named = find_runs(root, name=name, experiment=EXPERIMENT)
        if len(named) == 1:
            return named[0]
        if named:
            raise UserError(f"{len(named)} live runs are named {name}: " + ", ".join(run.run_id for run in named))
    raise UserError(f"no MLflow run, alias or run name {name!r} in {tracking_uri(root)}")


def read_artifact(root: Path, run_id: str, path: str) -> bytes | None:
    """The bytes of a run's artifact; None where it is missing."""
    mlflow = import_mlflow()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(mlflow.MlflowException, OSError):
        return Path(client(root).download_artifacts(run_id, path, folder)).read_bytes()
    return None


def exists(root: Path) -> bool:
    """Looking must not make a database."""
    uri = tracking_uri(root)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _view(run: Any, experiment: str) -> RunView:
    inputs = []
    for item in run.inputs.dataset_inputs:
        context = next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), "")
        path = json.loads(item.dataset.source).get("path", "") if item.dataset.source_type == "dvc" else ""
        inputs.append(DataInput(item.dataset.name, path, item.dataset.digest, context))
    return RunView(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        experiment=experiment,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics={k: v for k, v in run.data.metrics.items() if not (isinstance(v, float) and math.isnan(v))},
        inputs=tuple(sorted(inputs, key=lambda item: item.path)),
    )
