"""Verdicts from scores."""

from __future__ import annotations

from collections.abc import Sequence

from partsynth.config.quality import Quality
from partsynth.core.images.stats import ImageStats
from partsynth.quality.score import NEGATIVE, Limits, Scores, rounded
from partsynth.records.rows import ImageRecord, RealRecord, VerdictName, VerdictRecord


def judge(
    rows: Sequence[ImageRecord], images: ImageStats, scores: Scores, limits: Limits, params: Quality, set_name: str
) -> list[VerdictRecord]:
    """Verdict and reasons of every image, from thresholds alone."""
    checks = {
        "drift": scores.tolerated > params.accept_percentile,
        "other_class": (scores.strangeness > params.accept_percentile) & (scores.margin < 0),
        "blurred": scores.look.sharpness < limits.sharpness[0],
        "noisy": scores.look.sharpness > limits.sharpness[1],
        "dark": scores.look.brightness < limits.brightness[0],
        "bright": scores.look.brightness > limits.brightness[1],
        "flat": images.contrast < params.min_contrast,
        "inverted": (scores.look.inversion > limits.inversion) | (scores.similarity < NEGATIVE),
        "copy": scores.similarity > params.copy_similarity,
    }
    flagged: VerdictName = "warn" if params.on_flagged == "warn" else "drop"
    verdicts = []
    for i, row in enumerate(rows):
        reasons = [name for name, failed in checks.items() if failed[i]]
        verdicts.append(
            VerdictRecord(
                path=row.path,
                sha256=row.sha256,
                class_name=row.class_name,
                set_name=set_name,
                source="" if isinstance(row, RealRecord) else row.origin_path,
                drift=rounded(scores.drift[i]),
                percentile=float(scores.percentile[i]),
                calibration_n=scores.calibration_n,
                nearest_class=str(scores.nearest[i]),
                class_margin=rounded(scores.margin[i]),
                sharpness=rounded(images.sharpness[i]),
                brightness=rounded(images.brightness[i]),
                contrast=rounded(images.contrast[i]),
                copy_similarity=rounded(scores.similarity[i]),
                verdict=flagged if reasons else "accept",
                reasons=";".join(reasons),
                tolerated=float(scores.tolerated[i]) if params.tolerated else None,
                least_drift=rounded(scores.least[i]) if params.all_classes else None,
                nobody=float(scores.nobody[i]) if params.all_classes else None,
            )
        )
    return verdicts
