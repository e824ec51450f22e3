"""Which classes are told apart, and which unseen ones are noticed."""

from __future__ import annotations

from typing import Any

from partsynth.reporting import figures
from partsynth.reporting.format import PARTS
from partsynth.reporting.inputs import Contents

TABLES = {
    "Accuracy per class, in per cent": ("test", "shifted"),
    "AUROC per unseen class, in per cent": ("near_test", "far_test"),
}


def values(contents: Contents) -> dict[str, Any]:
    order, found = contents.summary.order, contents.summary.classes
    tables = {caption: [part for part in parts if part in found[order[0]]] for caption, parts in TABLES.items()}
    return {
        "drawn": figures.confusion({setup: contents.plot(f"confusion/{setup}.csv") for setup in order}),
        "order": order,
        "classes": found,
        "tables": {caption: parts for caption, parts in tables.items() if parts},
        "titles": PARTS,
    }
