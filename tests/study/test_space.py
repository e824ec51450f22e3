"""What a study searches, and on which data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import small_project

from partsynth.config import load as config_load
from partsynth.config.study import StudySpace
from partsynth.config.training import Train
from partsynth.errors import UserError
from partsynth.study.workers import run_study

CARD = "data/selected/real_id_negatives.csv"


def presets():
    return sorted((Path(__file__).parents[2] / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", [None, *presets()], ids=lambda path: path.stem if path else "defaults")
def test_the_ranges_hold_the_values_that_the_baselines_have(path):
    found = None if path is None else config_load.load_all(path)
    space, train = (found.study.space, found.train) if found else (StudySpace(), Train())
    values = {
        "temperature": train.temperature,
        "learning_rate": train.learning_rate,
        "synthetic_share": train.synthetic_share,
        "negatives_per_anchor": train.negatives / train.anchors,
        "negative_weight": train.negative_weight,
    }
    for name, value in values.items():
        low, high = getattr(space, name)
        assert low <= value <= high, name


def test_unfinished_or_changed_data_is_refused(project):
    table = project / CARD
    text = table.read_text()
    table.unlink()
    with pytest.raises(UserError, match=f"{CARD} is missing"):
        run_study(small_project.study_params(), project)
    table.write_text(text + "\n")
    with pytest.raises(UserError, match=f"{CARD} is not what dvc.lock records"):
        run_study(small_project.study_params(), project)
    table.write_text(text)
    (project / "data/ood/manifest.csv").unlink()
    shutil.copy(project / "data/real/manifest.csv", project / "data/ood/manifest.csv")
    with pytest.raises(UserError, match=r"data/ood/manifest.csv is not what dvc.lock records"):
        run_study(small_project.study_params(), project)
