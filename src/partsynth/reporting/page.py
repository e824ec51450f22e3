"""One page for engineers and auditors: what was found, on how many images, and what everything looks like.

Self-contained HTML (images and figures inside it, no request to anywhere), the same bytes for the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from partsynth.reporting.inputs import Contents
from partsynth.reporting.render import render
from partsynth.reporting.sections import (
    adaptation,
    augmentations,
    classes,
    data,
    differences,
    drift,
    embedding,
    flagged,
    ood,
    real,
    results,
    review,
    saliency,
    studies,
    training,
    verdict,
)

Values = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """One section: its values, shown by the template ``<key>.html.j2``; None where there is nothing to show."""

    key: str  # also its anchor
    title: str
    values: Callable[[Contents], Values | None]


SECTIONS = (
    Section("verdict", "Verdict", verdict.values),
    Section("results", "Results", results.values),
    Section("differences", "Differences", differences.values),
    Section("ood", "OOD detection", ood.values),
    Section("classes", "Classes", classes.values),
    Section("map", "Embedding map", embedding.values),
    Section("saliency", "What the classifiers look at", saliency.values),
    Section("adaptation", "Adaptation of the base model", adaptation.values),
    Section("drift", "Drift", drift.values),
    Section("augmentations", "Augmentations", augmentations.values),
    Section("flagged", "Flagged images", flagged.values),
    Section("review", "Review by people", review.values),
    Section("real", "Real images", real.values),
    Section("training", "Training", training.values),
    Section("studies", "Studies", studies.values),
    Section("data", "Data and provenance", data.values),
)


def page(contents: Contents) -> str:
    made = ((section, section.values(contents)) for section in SECTIONS)
    shown = [(s, render(f"{s.key}.html.j2", **values)) for s, values in made if values is not None]
    return render("page.html.j2", title=contents.inputs.params.title, lead=_lead(contents), sections=shown)


def _lead(contents: Contents) -> list[str]:
    summary, parts = contents.summary, contents.data.parts
    train, runs = parts["train"], sum(len(seeds) for seeds in summary.seeds.values())
    lead = [f"{len(summary.setups)} setups", f"{runs} trained models", f"{train.classes} classes"]
    lead += [f"{train.pictures} real training images", f"{parts['test'].pictures} test"]
    others = {"shifted": "shifted", "near_test": "near-OOD", "far_test": "far-OOD"}
    return lead + [f"{parts[part].pictures} {name}" for part, name in others.items() if part in parts]
