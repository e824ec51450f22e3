"""Whether two finished projects made the same products: `python benchmarks/same_bytes.py OLD NEW`.

Compared file by file: images, masks, tokens, strengths, verdicts, training tables, encoders, linear probes and
predictions. A model's files carry the fingerprint of their training, which holds a hash of the code: where two versions
of the code are compared, weights are also compared tensor by tensor. Exit code 1 where anything but that differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

from partsynth.store.hashing import sha256_file
from partsynth.store.layout import (
    AUGMENTED,
    CLASSIFIERS,
    OOD,
    PAGES,
    PLOTS,
    PREDICTIONS,
    QUALITY,
    RAW,
    REAL,
    SELECTED,
    STRENGTHS,
    TOKENS,
)

PRODUCTS = (
    RAW,
    REAL,
    OOD,
    TOKENS,
    STRENGTHS,
    AUGMENTED,
    QUALITY,
    PAGES,
    SELECTED,
    CLASSIFIERS,
    PREDICTIONS,
    PLOTS,
)  # in the order the data flows
RECORD = "run.json"  # names the MLflow run: another one each time


def files(root: Path, product: str) -> set[str]:
    top = root / product
    found = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix() for path in found if path.name != RECORD}


def same_tensors(old: Path, new: Path) -> bool:
    with safe_open(old, framework="np") as one, safe_open(new, framework="np") as two:
        return set(one.keys()) == set(two.keys()) and all(
            np.array_equal(one.get_tensor(name), two.get_tensor(name))
            for name in one.keys()  # noqa: SIM118
        )


def compare(old: Path, new: Path) -> tuple[list[str], list[str]]:
    """A line per product, and the files that differ by more than the fingerprint inside."""
    lines, different = [], []
    for product in PRODUCTS:
        one, two = files(old, product), files(new, product)
        alone = sorted(one ^ two)
        unlike = sorted(name for name in one & two if sha256_file(old / name) != sha256_file(new / name))
        marked = [n for n in unlike if n.endswith(".safetensors") and same_tensors(old / n, new / n)]
        lines.append(
            f"{product}: {len(one)} and {len(two)} files, {len((one & two) - set(unlike))} with the same bytes"
            + (f", {len(marked)} with the same tensors under another fingerprint" if marked else "")
        )
        different += alone + [name for name in unlike if name not in marked]
    return lines, different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="root of a finished project")
    parser.add_argument("new", type=Path, help="root of another")
    arguments = parser.parse_args()
    lines, different = compare(arguments.old, arguments.new)
    print("\n".join([*lines, f"{len(different)} files differ", *(f"  {name}" for name in different[:40])]))
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
