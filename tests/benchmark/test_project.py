"""A replicate's project, and which presets have a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from partsynth.benchmark.project import take_over, take_over_features
from partsynth.benchmark.run import Asked, run
from partsynth.errors import UserError
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import Layout


def test_presets_without_a_benchmark_and_unknown_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no section benchmark; these have: benchmark, benchmark-coins, "):
        run(Asked(preset="demo"), work=tmp_path)
    with pytest.raises(UserError, match="no preset 'bench'"):
        run(Asked(preset="bench"), work=tmp_path)
    with pytest.raises(UserError, match="needs --data"):
        run(Asked(preset="benchmark-photos"), work=tmp_path, root=tmp_path)


def test_renders_are_taken_over_once_from_the_same_seed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("all-seed1", "all-seed2", "shots1-seed2")]
    for folder in folders[:2]:
        write_text_atomic(folder / "data/raw/gear/a.png", folder.name)
        write_text_atomic(folder / "data/raw/manifest.csv", "")
    (folders[2] / "data").mkdir(parents=True)
    take_over(folders[2], folders)
    assert (folders[2] / "data/raw/gear/a.png").read_text() == "all-seed2"
    assert not (folders[2] / "data/raw/manifest.csv").exists()  # the stage writes it when all is there
    (folders[2] / "data/raw/gear/a.png").write_text("own")
    take_over(folders[2], folders)
    assert (folders[2] / "data/raw/gear/a.png").read_text() == "own"


def test_features_of_photographs_are_taken_from_the_last_replicate_that_is_done(tmp_path: Path) -> None:
    first, second, new = (tmp_path / name for name in ("all-seed1", "all-seed2", "all-seed3"))
    for folder, content in ((first, "old"), (second, "newer")):
        Layout(folder).features.mkdir(parents=True)
        (Layout(folder).features / "backbone.safetensors").write_text(content)
    take_over_features(new, [first, second])
    assert (Layout(new).features / "backbone.safetensors").read_text() == "newer"
    take_over_features(new, [first])  # what it has it keeps
    assert (Layout(new).features / "backbone.safetensors").read_text() == "newer"
    take_over_features(tmp_path / "other", [tmp_path / "nothing"])
    assert not (tmp_path / "other").exists()
