"""A study of data that is out of date."""

from __future__ import annotations

import pytest
from helpers import small_project

from partsynth.errors import UserError
from partsynth.lineage.status import outdated_stages
from partsynth.study.workers import run_study


@pytest.mark.slow
def test_stages_that_are_out_of_date_are_named(project):
    name = "select@real_id_negatives"
    assert outdated_stages(project, name) == [] and outdated_stages(project, "select@nobody") == []
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("strength: 0.5", "strength: 0.6"))
    stale = outdated_stages(project, name)
    assert "generate@near_ood" in stale and "generate@id" not in stale
    with pytest.raises(UserError, match=rf"out of date: .*generate@near_ood.* \(dvc repro {name}\)"):
        run_study(small_project.study_params(), project)
