"""What the package brings along: presets, dvc.yaml, .gitignore."""

from __future__ import annotations

from pathlib import Path

from partsynth.config.params import Params
from partsynth.lineage.code import PACKAGE
from partsynth.store.layout import BASE_MODEL

BASE = BASE_MODEL


def checkout() -> Path | None:
    """The repository this package runs from; None where it was installed as a wheel."""
    root = PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "src" / PACKAGE.name) == PACKAGE else None


def shipped(name: str) -> Path:
    """A file of the repository that the wheel carries too (presets/, dvc.yaml, .gitignore, .dvcignore)."""
    return (checkout() or PACKAGE / "shipped") / name


def presets() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped("presets").glob("*.yaml"), key=lambda path: path.stem)}


def needs_base_model(parameters: Params) -> bool:
    return any(m == BASE or m.startswith(f"{BASE}/") for m in (parameters.diffusion.model, parameters.reference.model))
