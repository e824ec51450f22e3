"""Rows of manifests for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.augmentation.methods.exchange import ExchangeRecord
from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import RealRecord, VerdictRecord


def real_row(name: str, split: str, group: str, **changes: Any) -> RealRecord:
    """Of the image ``<class>/<stem>``."""
    told = {
        "path": f"data/real/{split}/{name}.png",
        "sha256": f"real-{name}",
        "class_name": name.split("/")[0],
        "split": split,
        "group": group,
        "state": "used",
        "source": f"{name}.jpg",
        "source_sha256": "x",
    }
    return RealRecord(**(told | changes))


def _common(source: RealRecord, name: str, set_name: str) -> dict[str, Any]:
    """What the rows of all methods tell of a source's image in a file of that name."""
    return {
        "path": f"data/augmented/{set_name}/{source.class_name}/{name}.png",
        "class_name": source.class_name,
        "set_name": set_name,
        "source": source.path,
        "source_sha256": source.sha256,
        "source_group": source.group,
        "variant": 0,
        "seed": 0,
        "fingerprint": "f",
    }


def augmented(source: RealRecord, name: str, /, set_name: str = "id", **changes: Any) -> SdeditRecord:
    """Of an edit of ``source``, in a file of that name."""
    told = {
        **_common(source, name, set_name),
        "sha256": f"{set_name}-{source.class_name}/{name}",
        "prompt": "a photo of a rusty <gear>",
        "state": "rusty",
        "strength": 0.2,
        "guidance": 4.0,
        "steps": 25,
        "token_noise": 0.0,
        "masked": False,
        "size": 48,
        "token_sha256": "t",
        "base_sha256": "b",
    }
    return SdeditRecord(**(told | changes))


def exchanged(source: RealRecord, donor: RealRecord, /, set_name: str = "swaps", **changes: Any) -> ExchangeRecord:
    """Of an image of ``source`` with the inside of ``donor``."""
    told = {
        **_common(source, f"{Path(source.path).stem}-v0", set_name),
        "sha256": f"{set_name}-{source.sha256}-{donor.sha256}",
        "size": 0,
        "between": "siblings",
        "inner": 0.5,
        "feather": 1.0,
        "masks": "part",
        "donor": donor.path,
        "donor_sha256": donor.sha256,
        "donor_group": donor.group,
        "donor_class": donor.class_name,
    }
    return ExchangeRecord(**(told | changes))


def verdict(
    row: SdeditRecord, percentile: float, verdict: str = "accept", reasons: str = "", **changes: Any
) -> VerdictRecord:
    told = {
        "path": row.path,
        "sha256": row.sha256,
        "class_name": row.class_name,
        "set_name": row.set_name,
        "source": row.source,
        "drift": percentile * 4,
        "percentile": percentile,
        "calibration_n": 20,
        "nearest_class": row.class_name,
        "class_margin": 0.1,
        "sharpness": 0.1,
        "brightness": 0.5,
        "contrast": 0.2,
        "copy_similarity": 0.5,
        "verdict": verdict,
        "reasons": reasons,
    }
    return VerdictRecord(**(told | changes))


def decision(image: str | SdeditRecord, decision: str, **changes: Any) -> ReviewRecord:
    """A person's, about an image by its row or, of the set id and class gear, by the stem of its file."""
    known = {"path": f"data/augmented/id/gear/{image}.png", "sha256": f"id-gear/{image}", "class_name": "gear"}
    if isinstance(image, SdeditRecord):
        known = {"path": image.path, "sha256": image.sha256, "class_name": image.class_name}
    told = {"decision": decision, "reviewer": "ann", "time": "2026-11-26T09:30:00Z"}
    return ReviewRecord(**(known | told | changes))
