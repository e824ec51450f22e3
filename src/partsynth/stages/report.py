"""One page for engineers and auditors: what was found, on how many pictures, and what everything looks like.

Self-contained HTML (pictures and figures inside it, no request to anywhere), the same bytes for the same inputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.config.training import Report
from partsynth.store.files import read_json, write_text_atomic

if TYPE_CHECKING:
    pass
from partsynth.reporting.images import augmentations_section, drift_section, flagged_section, real_section
from partsynth.reporting.inputs import read_shown
from partsynth.reporting.page import data_section, document
from partsynth.reporting.results import (
    classes_section,
    differences_section,
    map_section,
    ood_section,
    results_section,
    training_section,
    verdict_section,
)
from partsynth.reporting.studies import study_section


def run(
    params: Report,
    metrics: Path,
    plots: Path,
    quality: Path,
    augmented: Path,
    real: Path,
    out: Path,
    root: Path,
    ood: Path,
    verdicts: Path,
    studies: Path,
) -> None:
    """Write the page ``out``.

    Parameters
    ----------
    metrics, plots : reports/metrics and reports/plots, written by the evaluate stage
    quality : reports/quality, whose pages are linked where they exist
    augmented, real : data/augmented and data/real, whose pictures are shown
    ood, verdicts : data/ood and data/quality, the tables of the quality stage
    studies : reports/studies, one JSON file of `partsynth study show` a study; there may be none
    """
    summary = read_json(metrics / "summary.json")
    shown = read_shown(augmented, real, ood, verdicts)
    sections = [
        ("verdict", "Verdict", verdict_section(summary)),
        ("results", "Results", results_section(summary)),
        ("differences", "Differences", differences_section(summary)),
        ("ood", "OOD detection", ood_section(summary, plots)),
        ("classes", "Classes", classes_section(summary, plots)),
        ("map", "Embedding map", map_section(plots)),
        ("drift", "Drift", drift_section(shown)),
        ("augmentations", "Augmentations", augmentations_section(shown, root, params)),
        ("flagged", "Flagged pictures", flagged_section(shown, root, params, quality, out)),
        ("real", "Real pictures", real_section(shown, root, params)),
        ("training", "Training", training_section(summary, plots)),
        ("studies", "Studies", "".join(study_section(read_json(path)) for path in sorted(studies.glob("*.json")))),
        ("data", "Data and provenance", data_section(summary)),
    ]
    write_text_atomic(out, document(params.title, summary, [s for s in sections if s[2]]))
    print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
