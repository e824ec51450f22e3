"""The manifests behind the images on the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shown:
    """The manifests behind the pictures on the page."""

    real: list[RealRecord]
    ood: list[RealRecord]
    sets: dict[str, list[AugmentedRecord]]
    verdicts: dict[str, dict[str, VerdictRecord]]  # set -> picture's path -> verdict


def read_shown(augmented: Path, real: Path, ood: Path, verdicts: Path) -> Shown:
    sets = {p.parent.name: read_manifest(p, AugmentedRecord) for p in sorted(augmented.glob("*/manifest.csv"))}
    ordered = [name for name in ("id", "near_ood", "far_ood") if name in sets]
    ordered += [name for name in sets if name not in ordered]
    judged = {p.stem: {v.path: v for v in read_manifest(p, VerdictRecord)} for p in sorted(verdicts.glob("*.csv"))}
    return Shown(
        real=read_manifest(real / "manifest.csv", RealRecord),
        ood=read_manifest(ood / "manifest.csv", RealRecord) if (ood / "manifest.csv").exists() else [],
        sets={name: sets[name] for name in ordered},
        verdicts=judged,
    )


def read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(
            path, dtype={"setup": str, "class_name": str, "actual": str, "predicted": str}, keep_default_na=True
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the evaluate stage (dvc repro)") from None
