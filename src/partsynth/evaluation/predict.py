"""Every model's view of every part: features, logits, OOD scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.config.training import Evaluate
from partsynth.core.evaluation import ood as scoring
from partsynth.core.evaluation.metrics import accuracy, auroc
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord, Record
from partsynth.store.hashing import sha256_file

if TYPE_CHECKING:
    pass

MAP_PICTURES = 160  # a kind in the embedding map


def _load(parts: dict[str, Sequence[Record]], size: int, root: Path) -> dict[str, np.ndarray]:
    """Every part as uint8 (n, size, size, 3), its bytes checked against the manifest."""
    from rich.progress import track

    loaded = {}
    for part, rows in track(parts.items(), description="reading", transient=True):
        loaded[part] = np.stack([np.asarray(read_image(root, row, size)) for row in rows])
    return loaded


@dataclass(frozen=True)
class Embedded:
    """One part seen by one model."""

    features: np.ndarray  # (n, D)
    logits: np.ndarray  # (n, C)


def predict(params: Evaluate, runs: list[tuple[str, int, Path]], parts: dict, root: Path) -> tuple:
    """Rows of predictions, the choices, points of the embedding map and a description, for every run."""
    import torch
    from rich.progress import track

    from partsynth.core.contrastive import encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures: dict[int, dict[str, np.ndarray]] = {}
    rows, choices, maps, described = [], {}, {}, []
    for setup, seed, folder in track(runs, description="evaluating", transient=True):
        model, config = encoder.load(folder, device)
        classes, size = list(config["classes"]), model.size
        _check_classes(folder, classes, parts)
        if size not in pictures:
            pictures[size] = _load(parts, size, root)
        seen = {}
        for part, images in pictures[size].items():
            seen[part] = Embedded(*(t.double().numpy() for t in encoder.embed(model, images, params.batch_size)))
            if not (np.isfinite(seen[part].features).all() and np.isfinite(seen[part].logits).all()):
                raise UserError(
                    f"{folder} gives non-finite outputs on {part}: its training diverged; lower "
                    "train.learning_rate or raise train.temperature"
                )
        weight, bias = (p.detach().cpu().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
        labels = {part: np.array([classes.index(row.class_name) for row in parts[part]]) for part in ("train", "val")}
        detectors = scoring.fit(seen["train"].features, labels["train"], weight, bias)
        k, choice = choose_k(params.k, detectors, seen, labels["val"])
        choices.setdefault(setup, {})[str(seed)] = choice
        for part, embedded in seen.items():
            if part != "train":
                rows += _rows(setup, seed, part, parts[part], embedded, detectors, k, classes)
        if setup not in maps:
            maps[setup] = _map(seed, parts, seen)
        described.append(
            {
                "setup": setup,
                "seed": seed,
                "config": {key: v for key, v in config.items() if key != "classes"},
                "sha256": {p.name: sha256_file(p) for p in sorted(folder.glob("*.safetensors"))},
            }
        )
    return rows, choices, maps, described


def _check_classes(folder: Path, classes: list[str], parts: dict) -> None:
    known = sorted({row.class_name for row in parts["train"]})
    if sorted(classes) != known:
        raise UserError(
            f"{folder / 'config.json'} has the classes {', '.join(classes)}; the training pictures show "
            f"{', '.join(known)}: train again (dvc repro)"
        )


def choose_k(
    candidates: Iterable[int], detectors: scoring.Detectors, seen: dict[str, Embedded], val_labels: np.ndarray
) -> tuple[int, dict[str, Any]]:
    """The k of kNN with the best mean AUROC of near and far OOD *validation* pictures against real validation ones.

    Where there are no OOD validation pictures: the k with the best kNN accuracy on val. Ties go to the smallest k.

    Parameters
    ----------
    candidates : those beyond the number of fitted pictures count as that number
    seen : at least "val"
    val_labels : (n,) class indices of the real validation pictures
    """
    allowed = sorted({min(k, len(detectors.bank)) for k in candidates})
    against = [part for part in ("near_val", "far_val") if part in seen]
    found = {p: scoring.neighbours(detectors, seen[p].features, allowed[-1]) for p in ["val", *against]}
    if against:
        source = f"mean AUROC of {' and '.join(against)} against val"
        pairs = {k: [(found["val"][0][:, k - 1], found[p][0][:, k - 1]) for p in against] for k in allowed}
        tried = {k: np.mean([auroc(*pair) for pair in pairs[k]]) for k in allowed}
    else:
        source = "kNN accuracy on val, as there are no OOD validation pictures"
        count = detectors.labels.max() + 1
        tried = {k: accuracy(val_labels, scoring.vote(found["val"][1][:, :k], count)) for k in allowed}
    k = max(allowed, key=lambda k: (round(float(tried[k]), 9), -k))
    return k, {"k": k, "from": source, "tried": {str(n): round(float(v), 6) for n, v in tried.items()}}


def _rows(
    setup: str,
    seed: int,
    part: str,
    records: Sequence,
    seen: Embedded,
    detectors: scoring.Detectors,
    k: int,
    classes: list[str],
) -> list[dict[str, Any]]:
    found = scoring.scores(detectors, seen.features, seen.logits, k)
    best = seen.logits.argmax(axis=1)
    near = scoring.vote(scoring.neighbours(detectors, seen.features, k)[1], len(classes))
    rows = []
    for i, record in enumerate(records):
        rows.append(
            {
                "setup": setup,
                "seed": seed,
                "part": part,
                "path": record.path,
                "class_name": record.class_name,
                "group": record.group if isinstance(record, RealRecord) else record.source_group,
                "predicted": classes[best[i]],
                "knn_predicted": classes[near[i]],
                "confidence": 1 - found["max_softmax"][i],
                **{name: found[name][i] for name in scoring.SCORES},
            }
        )
    return rows


def _map(seed: int, parts: dict, seen: dict[str, Embedded]) -> dict[str, Any]:
    """Unit features of evenly taken test and OOD pictures, with what they are."""
    kept = [
        (part, np.unique(np.linspace(0, len(parts[part]) - 1, MAP_PICTURES).astype(int)))
        for part in ("test", "near_test", "far_test")
        if part in parts
    ]
    return {
        "features": scoring.unit(np.concatenate([seen[part].features[index] for part, index in kept])),
        "rows": [(seed, part, parts[part][i].class_name, parts[part][i].path) for part, index in kept for i in index],
    }
