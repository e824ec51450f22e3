"""The metrics: one row per metric, with what it is called, where it is shown, and how it is computed from a run.

One more metric is one more row of ``MEMBERS``, or from outside: ``seams.METRICS.register(name, Metric(...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from partsynth.core.evaluation import metrics as core
from partsynth.seams import METRICS

if TYPE_CHECKING:
    import pandas as pd

STUDY_SET = "near_ood"  # the augmentations whose mean max-softmax the original study called "OOD confidence"
STUDY_PART = f"set_{STUDY_SET}"
Kind = Literal["near", "far"]
Place = Literal[
    "headline",  # panels of seeds and intervals on top of the report
    "main",  # the report's first table
    "more",  # its folded table
    "differences",  # its forest of paired differences
    "terminal",  # `partsynth summary`
    "card",  # the model card of `partsynth register`
    "benchmark",  # the benchmark's tables
    "benchmark_more",  # its second table of the main setups
    "benchmark_figure",  # its figure
    "generated",  # the report's table of generated images
]


@dataclass(frozen=True)
class Run:
    """The predictions of one trained model, by part, each sorted by path."""

    parts: Mapping[str, pd.DataFrame]
    score: str
    """The OOD score of the headline metrics: a column."""
    recall: float
    """Share of in-distribution images kept, at which the false-positive rate is told."""
    balanced: bool = False
    """Whether classes weigh alike in accuracy, whatever their number of images."""

    def __getitem__(self, part: str) -> pd.DataFrame:
        return self.parts[part]

    def scores(self, part: str) -> np.ndarray:
        """(n,) headline OOD scores."""
        return self.parts[part][self.score].to_numpy(float)

    def weights(self, part: str) -> np.ndarray:
        """(n,) of each image in accuracy; their sum is 1."""
        names = self.parts[part].class_name
        if not self.balanced:
            return np.full(len(names), 1 / len(names))
        counts = names.map(names.value_counts()).to_numpy(float)
        return 1 / (names.nunique() * counts)

    def share(self, part: str, column: str) -> float:
        """Accuracy of the classes in a column."""
        rows = self.parts[part]
        measure = core.balanced_accuracy if self.balanced else core.accuracy
        return measure(rows.class_name, rows[column])

    def correct(self, part: str) -> np.ndarray:
        """(n,) bool."""
        return (self.parts[part].class_name == self.parts[part].predicted).to_numpy()


@dataclass(frozen=True)
class PerImage:
    """A metric that is a weighted mean over the images of a part, so that its variation over clusters can be told."""

    part: str
    values: Callable[[Run], np.ndarray]
    """(n,) float; their mean, by the weights, is the metric."""
    weighted: bool = False
    """By ``Run.weights``; else all images weigh alike."""
    variants: bool = False
    """Whether what is unseen in it are its classes, and not its parts."""


@dataclass(frozen=True)
class Spoken:
    """Of a metric that the verdict tells."""

    words: str
    of: Literal["classification", "detection"]
    """Changes by negatives are meant for detection, all others for classification."""
    rank: int
    """Among those of its kind; the least one that was measured is what a change is meant for."""


@dataclass(frozen=True)
class Metric:
    """A figure of a trained model, at most 1."""

    name: str
    """Its key in summary.json and MLflow."""
    title: str
    more_is_better: bool | None
    """None where neither is better by itself."""
    compute: Callable[[Run], float]
    needs: tuple[str, ...] = ("test",)
    """Parts without which it is absent."""
    by_score: bool = False
    """Whether it is computed from the headline OOD score."""
    least: float = 0.0
    """The lowest value that it can have."""
    shown: tuple[Place, ...] = ("more",)
    spoken: Spoken | None = None
    about: str = ""
    """What the title does not say, for the model card."""
    per_image: tuple[PerImage, ...] = ()
    """What it is a mean of; an AUROC is one of OOD and one of ID images."""

    @property
    def by_class(self) -> bool:
        """Whether classes may weigh alike in it."""
        return any(about.weighted for about in self.per_image)

    def called(self, words: str, run: Run) -> str:
        """Its title, or what sentences call it, as it was computed for this run."""
        return words.replace("accuracy", "balanced accuracy") if self.by_class and run.balanced else words

    def missing(self, run: Run) -> str | None:
        """Why it cannot be computed; None where it can."""
        for part in self.needs:
            if part not in run.parts:
                return ABSENT.get(part, f"there are no predictions of the part {part}")
        if self.by_score and run.score not in run["test"]:
            return f"the predictions have no column {run.score} (evaluate.headline_score)"
        return None


def metrics(place: Place | None = None) -> list[Metric]:
    """All registered ones, or those shown in a place, in the tables' order."""
    return [metric for metric in map(METRICS.__getitem__, METRICS) if place is None or place in metric.shown]


def generated(parts: Mapping[str, pd.DataFrame]) -> Iterator[Metric]:
    """Metrics of the augmentation sets that there are, by name."""
    for part in sorted(parts):
        if part.startswith("set_"):
            name = part.removeprefix("set_")
            for measure, compute in (("accuracy", _accuracy(part)), ("confidence", _confidence(part))):
                title = f"{measure} on generated {name}"
                yield Metric(f"{measure}_generated_{name}", title, None, compute, (part,), shown=("generated",))


ABSENT = {
    "shifted": "the source has no images under shifted conditions (data/real has no shifted split)",
    "near_test": "the source has no near-OOD classes (data/ood holds none); ood.holdout_classes keeps some of the "
    "classes out of training for this",
    "far_test": "the source has no far-OOD classes (data/ood holds none)",
    STUDY_PART: f"there is no augmentation set named {STUDY_SET}",
}
"""Part -> why there may be none."""


def _accuracy(part: str) -> Callable[[Run], float]:
    return lambda run: run.share(part, "predicted")


def _confidence(part: str) -> Callable[[Run], float]:
    return lambda run: float(run[part].confidence.mean())


def _correct(part: str) -> tuple[PerImage, ...]:
    return (PerImage(part, lambda run: run.correct(part).astype(float), weighted=True),)


def _knn_correct(run: Run) -> np.ndarray:
    return (run["test"].class_name == run["test"].knn_predicted).to_numpy(float)


def _detection(kind: Kind, rank: int) -> Iterator[Metric]:
    """How well test images are told from OOD images of one kind."""
    part, name, title = f"{kind}_test", f"{kind}_ood", f"{kind}-OOD"

    def pair(run: Run) -> tuple[np.ndarray, np.ndarray]:
        return run.scores("test"), run.scores(part)

    def of_pair(compute: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Run], float]:
        return lambda run: compute(*pair(run))

    def per_variant(values: Callable[[Run], np.ndarray]) -> PerImage:
        return PerImage(part, values, variants=True)

    needs = ("test", part)
    yield Metric(
        f"{name}_auroc",
        f"{title} AUROC",
        more_is_better=True,
        compute=of_pair(core.auroc),
        needs=needs,
        by_score=True,
        shown=(*EVERYWHERE, "benchmark", *(("benchmark_figure",) if kind == "near" else ())),
        spoken=Spoken(f"{title} AUROC", "detection", rank),
        per_image=(
            per_variant(lambda run: core.placements(*pair(run))),
            PerImage("test", lambda run: 1 - core.placements(*reversed(pair(run)))),
        ),
    )
    for positive, compute in (("in", core.aupr_in), ("out", core.aupr_out)):
        spelled = {"in": "ID", "out": "OOD"}[positive]
        yield Metric(
            f"{name}_aupr_{positive}",
            f"{title} AUPR, {spelled} positive",
            more_is_better=True,
            compute=of_pair(compute),
            needs=needs,
            by_score=True,
        )
    yield Metric(
        f"{name}_fpr95",
        f"{title} FPR@95",
        more_is_better=False,
        compute=lambda run: core.fpr(*pair(run), run.recall),
        needs=needs,
        by_score=True,
        shown=("main", "differences", "card", *(("terminal", "benchmark") if kind == "near" else ())),
        per_image=(per_variant(lambda run: core.accepted(*pair(run), run.recall).astype(float)),),
    )


EVERYWHERE: tuple[Place, ...] = ("headline", "main", "differences", "terminal", "card")
MEMBERS = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy_test",
            "accuracy, test",
            more_is_better=True,
            compute=_accuracy("test"),
            shown=(*EVERYWHERE, "benchmark", "benchmark_figure"),
            spoken=Spoken("test accuracy", "classification", 2),
            per_image=_correct("test"),
        ),
        Metric(
            "accuracy_shifted",
            "accuracy, shifted",
            more_is_better=True,
            compute=_accuracy("shifted"),
            needs=("shifted",),
            shown=(*EVERYWHERE, "benchmark", "benchmark_figure"),
            spoken=Spoken("shifted accuracy", "classification", 1),
            about="other wear, light, angles",
            per_image=_correct("shifted"),
        ),
        Metric(
            "macro_f1_test",
            "macro F1, test",
            more_is_better=True,
            compute=lambda run: core.macro_f1(run["test"].class_name, run["test"].predicted),
            shown=("main", "benchmark_more"),
        ),
        Metric(
            "knn_accuracy_test",
            "kNN accuracy, test",
            more_is_better=True,
            compute=lambda run: run.share("test", "knn_predicted"),
            shown=("more", "benchmark_more"),
            per_image=(PerImage("test", _knn_correct, weighted=True),),
        ),
        Metric(
            "ece_test",
            "calibration error (ECE), test",
            more_is_better=False,
            compute=lambda run: core.ece(run["test"].confidence, run.correct("test")),
            shown=("more", "benchmark_more"),
        ),
        *_detection("near", 1),
        *_detection("far", 2),
        Metric(
            "id_confidence",
            "ID confidence (validation images)",
            more_is_better=True,
            compute=_confidence("val"),
            needs=("val",),
            shown=("more", "benchmark_more"),
        ),
        Metric(
            "ood_confidence",
            f"OOD confidence ({STUDY_SET} augmentations)",
            more_is_better=False,
            compute=_confidence(STUDY_PART),
            needs=(STUDY_PART,),
            shown=("more", "benchmark_more"),
        ),
        Metric(
            "confidence_gap",
            "ID minus OOD confidence",
            more_is_better=True,
            compute=lambda run: _confidence("val")(run) - _confidence(STUDY_PART)(run),
            needs=("val", STUDY_PART),
            least=-1.0,
            shown=("more", "benchmark_more"),
        ),
    )
}
