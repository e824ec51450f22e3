"""Sections evaluate and report: what is told of the trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from partsynth.config.base import Count, Fraction, Section, member_of, unless
from partsynth.seams import SCORES

AUTO = "auto"


class Evaluate(Section):
    """Accuracy and OOD figures; every choice is made on validation parts."""

    headline_score: Annotated[str, member_of(SCORES, also=(AUTO,))] = "knn"
    """OOD score of the headline figures, declared before results are seen; auto = the one with the best mean AUROC on
    near and far OOD validation images, over all models, in a benchmark those of the main setups (ties: the first named
    here; kNN, whose k is chosen on the same images, where it leads by more than a standard error)."""
    more_scores: Annotated[list[Annotated[str, member_of(SCORES)]], unless([])] = []
    """OOD scores that are told (and that auto chooses among) beside the usual ones: knn_by_class = the kNN distance
    divided by its median among validation images of the predicted class. headline_score may name it alone."""
    families: Annotated[dict[str, str], unless({})] = {}
    """Score knn_by_class: classes whose name matches a pattern, as in {gear_*: gear}, share one median; others have
    their own."""
    accuracy: Annotated[Literal["images", "classes"], unless("images")] = "images"
    """What weighs alike in accuracy: images; or classes, whatever their number of images (balanced accuracy)."""
    k: list[Count] = [1, 3, 5, 10]
    """Neighbours of the kNN score to choose from, on the OOD validation images."""
    id_recall: Fraction = 0.95
    """Share of in-distribution images kept, at which the false-positive rate on OOD is told (0.95: FPR@95)."""
    confidence: Fraction = 0.95
    """Level of the confidence intervals."""
    saliency: Annotated[int, Field(ge=0), unless(4)] = 4
    """Test images per class whose saliency is mapped (what the classifier looks at), with each setup's first seed; 0 =
    none."""
    batch_size: Count = 256
    """Images per forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models are run: auto is cuda where there is a device."""


class Report(Section):
    """The page for people."""

    title: str = "Do good augmentations help, and can bad ones help as negatives?"
    """Its heading."""
    sheet_pictures: Count = 24
    """Images per contact sheet."""
