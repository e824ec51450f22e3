"""A look into a store through MLflow's client: a server, another database, a file of another MLflow."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, cast

from partsynth.tracking.inputs import CONTEXT
from partsynth.tracking.views import ModelVersion, RunView, Status, Wanted, data_input

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class ClientReader:
    """See ``views.Reader``."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def runs(self, wanted: Wanted) -> list[RunView]:
        experiments = self.client.search_experiments()
        chosen = {e.experiment_id: e.name for e in experiments if wanted.experiment in (None, e.name)}
        if not chosen:
            return []
        attributes = {"datasets.digest": wanted.digest, "attributes.run_name": wanted.name}
        terms = {f"tags.`{key}`": value for key, value in wanted.tags.items()} | attributes
        query = " and ".join(f"{key} = {_quoted(value)}" for key, value in terms.items() if value is not None)
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                list(chosen), filter_string=query, order_by=["attributes.start_time ASC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return [_view(run, chosen[run.info.experiment_id]) for run in found]

    def run(self, run_id: str) -> RunView | None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            run = self.client.get_run(run_id)
            return _view(run, self.client.get_experiment(run.info.experiment_id).name)
        return None

    def aliased(self, model: str, alias: str) -> str | None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            return self.client.get_model_version_by_alias(model, alias).run_id
        return None

    def versions(self) -> list[ModelVersion]:
        found = []
        for registered in self.client.search_registered_models():
            aliases: dict[str, list[str]] = {}
            for alias, version in registered.aliases.items():
                aliases.setdefault(str(version), []).append(alias)
            for version in self.client.search_model_versions(f"name = {_quoted(registered.name)}"):
                number = str(version.version)
                named = tuple(sorted(aliases.get(number, [])))
                found.append(ModelVersion(registered.name, number, version.run_id or "", named))
        return found


def _quoted(value: str) -> str:
    """MLflow's filters know two kinds of quotes, and no way to have both in one value."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _view(run: Run, experiment: str) -> RunView:
    inputs = []
    for item in run.inputs.dataset_inputs if run.inputs else []:
        data, context = item.dataset, next((tag.value for tag in item.tags if tag.key == CONTEXT), "")
        inputs.append(data_input(data.name, data.digest, data.source_type, data.source, context))
    return RunView(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=cast(Status, run.info.status),
        deleted=run.info.lifecycle_stage == "deleted",
        experiment=experiment,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        artifact_uri=run.info.artifact_uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics={k: v for k, v in run.data.metrics.items() if not math.isnan(v)},
        inputs=tuple(sorted(inputs, key=lambda item: item.path)),
    )
