"""What tuning the base model on one's own photographs gained, on validation images."""

from __future__ import annotations

from typing import Any

from partsynth.errors import UserError
from partsynth.reporting.inputs import Contents

SHEET = "reconstruction.png"


def values(contents: Contents) -> dict[str, Any] | None:
    figures, folder = contents.adaptation, contents.inputs.adapted
    if figures is None or folder is None:
        return None
    try:
        sheet = (folder / SHEET).read_bytes()
    except OSError:
        raise UserError(f"{folder / SHEET} is missing: dvc checkout, or dvc repro adapt") from None
    return {"figures": figures, "sheet": sheet}
