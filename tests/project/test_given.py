"""Photographs written into a preset's text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from partsynth.project.given import Photographs, with_photographs
from partsynth.project.shipped import presets

PHOTOGRAPHS = presets()["photographs"]


@pytest.mark.parametrize("path", ["/a b/c", "/ä/#1", "/x: y", "/{curly}"])
def test_any_data_path_passes_through_yaml(path: str) -> None:
    text = with_photographs(PHOTOGRAPHS.read_text(), Photographs(data=Path(path), shifted=Path(path), far=Path(path)))
    loaded = yaml.safe_load(text)
    assert loaded["ingest"]["path"] == loaded["ingest"]["shifted"] == loaded["ood"]["far"] == path


def test_only_the_data_path_of_a_preset_changes() -> None:
    text = PHOTOGRAPHS.read_text()
    changed = with_photographs(text, Photographs(data=Path("/photos")))
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [("  path: data/raw", '  path: "/photos"')]


def test_what_init_is_told_stands_in_params_yaml_and_its_comments_stay() -> None:
    told = Photographs(
        data=Path("/p"), shifted=Path("/s"), far=Path("/f"), held_out=["nut", "no"], group_pattern=r"_(spot\d+)_"
    )
    text = PHOTOGRAPHS.read_text()
    changed = with_photographs(text, told)
    loaded = yaml.safe_load(changed)
    assert loaded["ingest"] | {} == yaml.safe_load(text)["ingest"] | {
        "path": "/p",
        "shifted": "/s",
        "group_pattern": r"_(spot\d+)_",
    }
    assert loaded["ood"] == {"holdout_classes": ["nut", "no"], "far": "/f"}
    assert [line for line in text.splitlines() if "#" in line] == [line for line in changed.splitlines() if "#" in line]
