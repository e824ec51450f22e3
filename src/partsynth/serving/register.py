"""The chosen model in MLflow's registry, as one that `mlflow models serve` answers with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from partsynth.errors import UserError
from partsynth.evaluation import champion
from partsynth.serving.export import Inputs, export
from partsynth.tracking.takedown import require_untouched


def register(root: Path, name: str | None = None, alias: str = "champion") -> Iterator[str]:
    """Register a run's model (the chosen one of the workspace by default) and say what was done.

    The version's source is the run's export as a logged model. Where it cannot be exported (the extra ``serve`` is not
    installed, the model is not in the workspace) it is the trained weights, and that is said.

    Raises
    ------
    UserError
        where there is no such run, none is trained, the run did not finish, or a photograph that it was trained on was
        taken down.
    """
    root = root.resolve()
    chosen = champion.candidate(root, name)
    require_untouched(chosen.run)
    servable, why_not = None, ""
    try:
        with tempfile.TemporaryDirectory() as place:
            done = export(Inputs(root=root, out=Path(place, "export"), run=chosen.run.run_id))
        servable = done.about["model"]["logged_model"]
    except UserError as error:
        why_not = str(error)
    told = champion.register_candidate(root, chosen, alias, servable)
    yield told
    model = told.partition(" ")[0]
    if servable is None:
        yield f"the version holds the trained weights, which mlflow models serve cannot answer with: {why_not}"
    else:
        yield f"mlflow models serve --env-manager local -m models:/{model}@{alias}"
