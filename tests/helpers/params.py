"""params.yaml files for tests, and the faults that are found in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from partsynth.config.load import load_all
from partsynth.errors import UserError


def write(folder: Path, content: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def faults(folder: Path, content: object) -> str:
    """What is said of a params.yaml with this content."""
    with pytest.raises(UserError) as caught:
        load_all(write(folder, content))
    return str(caught.value)
