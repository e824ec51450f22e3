"""The chosen model: by validation accuracy alone, registered in MLflow under an alias with a card and data digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partsynth.errors import UserError
from partsynth.evaluation.metrics import metrics
from partsynth.evaluation.results import read_summary
from partsynth.records.card import DataCard, read_card
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import CARD, REPORT, SUMMARY, Layout
from partsynth.store.reading import lacking, read_object
from partsynth.tracking.query import RunView, get_run
from partsynth.tracking.registry import register_model
from partsynth.tracking.store import model_name

LONGEST = 5000  # characters that MLflow's registry keeps


@dataclass(frozen=True)
class Trained:
    """One model folder of the workspace."""

    folder: Path
    setup: str
    seed: int
    run_id: str
    val_accuracy: float


def trained(root: Path) -> list[Trained]:
    """Every finished model of the workspace, by setup and seed."""
    found = []
    layout = Layout(root)
    for path in sorted(layout.classifiers.glob("*/*/config.json")):
        config = read_object(path)
        lacking(path, config, {"setup": str, "seed": int})
        record = layout.run_record(config["setup"], config["seed"])
        metrics = config.get("metrics", {})
        value = metrics.get("val_accuracy") if isinstance(metrics, dict) else metrics
        if value is not None and record.is_file():  # else it is not finished
            if not isinstance(value, int | float):
                raise UserError(f"{path}: metrics.val_accuracy should be a number, found {value!r}: dvc checkout")
            named = read_object(record)
            lacking(record, named, {"run_id": str})
            found.append(Trained(path.parent, config["setup"], config["seed"], named["run_id"], value))
    return found


def choose(models: list[Trained]) -> Trained:
    """The setup of the highest mean validation accuracy, and its seed of the highest; the first of equals.

    Test images have no say: the card's test figures stay an estimate for a model that was not chosen by them.
    """
    by_setup: dict[str, list[Trained]] = {}
    for model in models:
        by_setup.setdefault(model.setup, []).append(model)
    best = max(by_setup.values(), key=lambda group: sum(m.val_accuracy for m in group) / len(group))
    return max(best, key=lambda m: (m.val_accuracy, -m.seed))


def results(root: Path, setup: str, seed: int) -> dict[str, float]:
    """The evaluation's figures of one model, if it evaluated exactly these weights; else none."""
    layout = Layout(root)
    if not layout.summary.is_file():
        return {}
    summary = read_summary(layout.summary)
    run = next((r for r in summary.runs if (r.setup, r.seed) == (setup, seed)), None)
    folder = layout.classifier(setup, seed)
    if run is None or any(sha256_file(folder / name) != digest for name, digest in run.sha256.items()):
        return {}
    shown = {metric.name for metric in metrics("card")}
    place = summary.seeds[setup].index(seed)
    return {name: m.values[place] for name, m in summary.setups[setup].items() if name in shown}


@dataclass(frozen=True)
class Candidate:
    """The run whose model is to be registered, why, and its figures."""

    run: RunView
    why: str
    figures: dict[str, float]


def candidate(root: Path, name: str | None = None) -> Candidate:
    """A run by its name, the chosen one of the workspace where none is given.

    Raises
    ------
    UserError
        where there is no such run, or none is trained.
    """
    models = trained(root)
    if name is None:
        if not models:
            raise UserError(f"no trained model in {Layout(root).classifiers}: dvc repro, or name a run")
        chosen = choose(models)
        run = get_run(root, chosen.run_id)
        why = (
            f"highest validation accuracy of {len(models)} models of the workspace (mean over the setup's seeds first)"
        )
    else:
        run = get_run(root, name)
        why = "named by its user"
    here = next((m for m in models if m.run_id == run.run_id), None)
    return Candidate(run, why, results(root, here.setup, here.seed) if here else {})


def register(root: Path, name: str | None = None, alias: str = "champion", servable: str | None = None) -> str:
    """Register a run's model (the chosen one of the workspace by default); returns what was done.

    Parameters
    ----------
    servable : id of the run's logged model that can be served; None registers the trained weights.

    Raises
    ------
    UserError
        where there is no such run, none is trained, the run did not finish, or a photograph that it was trained on was
        taken down.
    """
    root = root.resolve()
    return register_candidate(root, candidate(root, name), alias, servable)


def register_candidate(root: Path, chosen: Candidate, alias: str, servable: str | None) -> str:
    """The same of a run that was chosen already."""
    run, why = chosen.run, chosen.why
    text = card(run, why, chosen.figures, alias, read_card(root / CARD))
    version = register_model(root, run.run_id, text, alias, metrics=chosen.figures, servable=servable)
    return f"{model_name(root)} version {version} @{alias}: run {run.run_id} ({run.name}), {why}"


def _encoder(run: RunView) -> str:
    """What the encoder is, in words, with its stored weights."""
    backbone, params = run.params.get("train.backbone", "narrow_resnet"), run.params
    kind = (
        "small ResNet" if backbone == "narrow_resnet" else " ".join(filter(None, [backbone, params.get("train.model")]))
    )
    frozen = params.get("train.trainable") == "none"
    told = f"Encoder ({kind}, {'as it was stored' if frozen else 'supervised contrastive'})"
    if "weights.sha256" not in params:
        return told
    return (
        f"{told}, begun from the weights {params.get('weights.source')} (sha256 `{params['weights.sha256']}`, licence "
        f"{params.get('weights.licence')}),"
    )


def card(run: RunView, why: str, figures: dict[str, float], alias: str, about: DataCard) -> str:
    """Markdown, within the registry's limit: what the model is, made of (``about`` its photographs), worth, not for."""
    lines = [
        f"# {run.name}",
        "",
        f"{_encoder(run)} and linear classifier of used industrial parts.",
        f"Chosen: {why}.",
        "",
        "## Figures",
        "",
    ]
    shown = {"accuracy, validation": run.metrics.get("final_val_accuracy")}
    for metric in metrics("card"):
        shown[f"{metric.title} ({metric.about})" if metric.about else metric.title] = figures.get(metric.name)
    lines += [f"- {label}: {value:.3f}" for label, value in shown.items() if value is not None]
    if not figures:
        lines.append(f"- no evaluation of these weights in {SUMMARY}")
    lines += ["", f"One seed's figures; {REPORT} has intervals over seeds.", "", "## Data (DVC's md5)", ""]
    lines += [f"- `{item.path}` ({item.context}): `{item.digest}`" for item in run.inputs]
    lines += [
        "",
        *(f"- {name}: {text}" for name, text in about.told().items()),
        "",
        f"Base model of the synthetic images: `{run.tags.get('base_sha256', 'unknown')}`.",
        f"`partsynth audit run {alias} --out DIR` checks all of it out and verifies it.",
        "",
        "## Origin",
        "",
        f"- run `{run.run_id}`, commit `{run.tags.get('git_commit')}`, "
        f"uncommitted changes: {run.tags.get('git_dirty')}",
        f"- environment (requirements.lock) `{run.tags.get('lock_sha256')}`, device {run.tags.get('device')}",
        "",
        "## Not for",
        "",
        "Parts, cameras or lighting other than the training photographs'; decisions without a person. A part of no "
        "known class is recognised by the kNN distance of its features, at best as well as the OOD figures say.",
    ]
    text = "\n".join(lines) + "\n"
    return text if len(text) <= LONGEST else text[: LONGEST - 30] + "\n(cut; see the run's tags)\n"
