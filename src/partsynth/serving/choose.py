"""Which trained model of the workspace is exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partsynth.errors import UserError
from partsynth.evaluation.champion import Trained, choose, trained
from partsynth.store.files import read_json
from partsynth.store.layout import CLASSIFIERS
from partsynth.tracking.query import RunView, get_run, model_versions
from partsynth.tracking.store import MODEL, model_name
from partsynth.tracking.takedown import require_untouched

CHAMPION = "champion"


@dataclass(frozen=True)
class Chosen:
    """A model folder of the workspace, its run, and why it was taken."""

    model: Trained
    run: RunView | None  # None where the store does not know it
    why: str


def choose_model(root: Path, run: str | None = None, alias: str = CHAMPION) -> Chosen:
    """The model of a run, or of an alias of the registered model; the workspace's best where none is registered.

    Raises
    ------
    UserError
        where there is no such run or alias, its model is not in the workspace, or it was trained on a photograph that
        was taken down.
    """
    models = trained(root)
    if not models:
        raise UserError(f"no trained model in {root / CLASSIFIERS}: dvc repro")
    if run is None:
        mine = (model_name(root), MODEL)
        aliases = [name for version in model_versions(root) if version.model in mine for name in version.aliases]
        if alias in aliases and (registered := _known_run(root, alias)) is not None:
            return _of_run(root, registered, models, f"registered model @{alias}")
        if alias != CHAMPION:
            known = f"; there are {', '.join(sorted(aliases))}" if aliases else ": partsynth register gives one"
            raise UserError(f"the registered model {mine[0]} has no alias {alias!r}{known}")
        best = choose(models)
        if (known_run := _known_run(root, best.run_id)) is not None:
            require_untouched(known_run)
        why = f"no model is registered as @{CHAMPION}: the highest validation accuracy of the workspace was taken"
        return Chosen(best, known_run, why)
    return _of_run(root, get_run(root, run), models, "named by its user")


def _of_run(root: Path, run: RunView, models: list[Trained], why: str) -> Chosen:
    """By the run's id or, where the same training was run again, by the fingerprint of all its inputs."""
    require_untouched(run)
    wanted = run.tags.get("fingerprint")
    for model in models:
        if model.run_id == run.run_id or (wanted and read_json(model.folder / "config.json")["fingerprint"] == wanted):
            return Chosen(model, run, why)
    raise UserError(
        f"the model of run {run.run_id} ({run.name}) is not in {root / CLASSIFIERS}: check out its commit "
        f"{run.tags.get('git_commit', 'unknown')} (git checkout, dvc checkout) and export there"
    )


def _known_run(root: Path, run_id: str) -> RunView | None:
    try:
        return get_run(root, run_id)
    except UserError:
        return None
