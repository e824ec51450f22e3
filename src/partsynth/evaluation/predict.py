"""Every model's view of every part: predictions with OOD scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.config.evaluation import Evaluate
from partsynth.core import devices
from partsynth.core.evaluation.ood import Known, Scorer, neighbours, unconfidence, unit, vote
from partsynth.errors import UserError
from partsynth.evaluation.looks import Look
from partsynth.evaluation.plot_data import MapPoint, Points
from partsynth.evaluation.predictions import Prediction
from partsynth.evaluation.results import Choice, EvaluatedRun
from partsynth.evaluation.runs import ModelRun, refuse_damaged
from partsynth.evaluation.saliency import looks
from partsynth.evaluation.scoring import Seen, embed, fit, scorers, told
from partsynth.evaluation.together import OfRun, evaluated_together
from partsynth.records.rows import ImageRecord
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout
from partsynth.store.seal import unsealed

if TYPE_CHECKING:
    from partsynth.core.contrastive.encoder import Classifier

VIEWS = ("none", "flips", "rotations")  # of ``core.images.views``, which brings torch
MAP_IMAGES = 160  # per part, in the embedding map
Parts = Mapping[str, Sequence[ImageRecord]]  # train, val, test, shifted, near_val, ..., set_<name> -> images


@dataclass(frozen=True)
class Predicted:
    """What all models make of all parts."""

    rows: list[Prediction]
    choices: dict[str, dict[str, Choice]]  # setup -> seed
    maps: dict[str, Points]  # setup -> features of its first seed
    runs: list[EvaluatedRun]
    looks: list[Look]  # what each setup's first seed looks at in some test images


def predict(params: Evaluate, runs: Iterable[ModelRun], parts: Parts, root: Path) -> Predicted:
    """Predictions of every model, with the choices that were made on validation images.

    Several processes deal the models out among them; the first one has all results, the others have their own.

    Raises
    ------
    UserError
        where a model's classes are not the images', its outputs are not finite, an image is not its manifest's, or the
        device is not there.
    """
    try:
        device = devices.pick(params.device)
    except ValueError as error:
        raise UserError(f"evaluate.{error}") from None
    runs, images = list(runs), dict[int, dict[str, np.ndarray]]()
    firsts = {run.setup: run for run in reversed(runs)}

    def evaluate(run: ModelRun) -> OfRun:
        return _of_run(params, run, run == firsts[run.setup], parts, images, device, root)

    found = Predicted([], {}, {}, [], [])
    for one in evaluated_together(runs, Layout(root).work / "evaluate", evaluate):
        setup = one.run.setup
        found.choices.setdefault(setup, {})[str(one.run.seed)] = one.choice
        found.rows.extend(one.rows)
        if one.points is not None:
            found.maps[setup] = one.points
        found.looks.extend(one.looks)
        found.runs.append(one.run)
    return found


def _of_run(
    params: Evaluate,
    run: ModelRun,
    mapped: bool,
    parts: Parts,
    images: dict[int, dict[str, np.ndarray]],
    device: str,
    root: Path,
) -> OfRun:
    """One model's results, with what is drawn where it is ``mapped``; ``images``, by size, are read once for all."""
    from partsynth.training import classifier
    from partsynth.training.frozen import FrozenFeatures

    model, config = classifier.load(run.folder, device)
    refuse_damaged(run.folder, model, config["fingerprint"])
    classes = list(config["classes"])
    _check_classes(run.folder, classes, parts)
    if model.size not in images:
        images[model.size] = _load(parts, model.size, root)
    kept = None
    if config.get("train", {}).get("trainable") == "none":
        model.encoder.memory = kept = FrozenFeatures(model.encoder, root)
    seen = embed(model, images[model.size], params.batch_size)
    if kept:
        kept.keep()
    _check_finite(run.folder, seen)
    labels = {part: np.array([classes.index(row.class_name) for row in parts[part]]) for part in ("train", "val")}
    known, choice = fit(params, model, seen, labels["train"], labels["val"], classes)
    points, seen_by = None, list[Look]()
    if mapped:
        points = _points(run.seed, parts, seen)
        model.encoder.memory = None  # what is remembered has no gradient
        test, logits = images[model.size]["test"], seen["test"].logits
        seen_by = looks(run, model, classes, parts["test"], test, logits, params.saliency, root)
    about = {key: value for key, value in unsealed(config).items() if key != "classes"}
    digests = {p.name: sha256_file(p) for p in sorted(run.folder.glob("*.safetensors"))}
    return OfRun(
        run=EvaluatedRun(setup=run.setup, seed=run.seed, config=about, sha256=digests),
        choice=_with_views(choice, model, config),
        rows=list(_predictions(run, parts, seen, scorers(known, told(params)), known, classes)),
        points=points,
        looks=seen_by,
    )


def _with_views(choice: Choice, model: Classifier, config: Mapping[str, Any]) -> Choice:
    """The choice, and which views training chose, where there is something to tell of them."""
    figures = config.get("metrics", {})
    tried = {kind: figures[name] for kind in VIEWS if (name := f"val_accuracy_{kind}") in figures}
    told = {"test_views": model.test_views} if model.test_views != "none" or tried else {}
    return choice.model_copy(update={**told, **({"views_tried": tried} if tried else {})})


def _load(parts: Parts, size: int, root: Path) -> dict[str, np.ndarray]:
    """Every part as uint8 (n, size, size, 3), its bytes checked against the manifest."""
    from rich.progress import track

    from partsynth.training.images import load_image

    loaded = {}
    for part, rows in track(parts.items(), description="reading", transient=True):
        loaded[part] = np.zeros((len(rows), size, size, 3), dtype=np.uint8)
        for i, row in enumerate(rows):
            loaded[part][i] = load_image(root, row, size)
    return loaded


def _check_classes(folder: Path, classes: list[str], parts: Parts) -> None:
    known = sorted({row.class_name for row in parts["train"]})
    if sorted(classes) != known:
        raise UserError(
            f"{folder / 'config.json'} has the classes {', '.join(classes)}; the training images show "
            f"{', '.join(known)}: train again (dvc repro)"
        )


def _check_finite(folder: Path, seen: Seen) -> None:
    for part, embedded in seen.items():
        if not (np.isfinite(embedded.features).all() and np.isfinite(embedded.logits).all()):
            raise UserError(
                f"{folder} gives non-finite outputs on {part}: its training diverged; lower train.learning_rate or "
                "raise train.temperature"
            )


def _predictions(
    run: ModelRun, parts: Parts, seen: Seen, fitted: Mapping[str, Scorer], known: Known, classes: list[str]
) -> Iterator[Prediction]:
    """Of one model, part by part; training images are what scores are fitted to, so they have none."""
    for part, embedded in seen.items():
        if part == "train":
            continue
        scores = {name: score(embedded.features, embedded.logits) for name, score in fitted.items()}
        near = vote(neighbours(known, embedded.features, known.k)[1], len(classes))
        best, confidence = embedded.logits.argmax(axis=1), 1 - unconfidence(embedded.logits)
        for i, record in enumerate(parts[part]):
            yield Prediction(
                setup=run.setup,
                seed=run.seed,
                part=part,
                path=record.path,
                class_name=record.class_name,
                group=record.origin_group,
                predicted=classes[best[i]],
                knn_predicted=classes[near[i]],
                confidence=float(confidence[i]),
                scores={name: float(values[i]) for name, values in scores.items()},
            )


def _points(seed: int, parts: Parts, seen: Seen) -> Points:
    """Unit features of evenly taken test and OOD images."""
    kept = [
        (part, np.unique(np.linspace(0, len(parts[part]) - 1, MAP_IMAGES).astype(int)))
        for part in ("test", "near_test", "far_test")
        if part in parts
    ]
    features = unit(np.concatenate([seen[part].features[index] for part, index in kept]))
    rows = [MapPoint(seed, part, parts[part][i].class_name, parts[part][i].path) for part, index in kept for i in index]
    return Points(rows, features)
