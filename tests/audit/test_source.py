"""What came of a photograph."""

from __future__ import annotations

import pytest
from helpers.audits import PARENT

from partsynth.audit.source import trace_source
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord


def test_what_came_of_a_photograph(project):
    row = next(r for r in read_manifest(project / "data/real/manifest.csv", RealRecord) if r.path == PARENT)
    for what in (PARENT, row.source, row.sha256, row.source_sha256[:12]):
        result = trace_source(project, what)
        assert result.faults == []
        data = result.data
        assert data["photograph"]["source"] == row.source
        assert [item["path"] for item in data["framed"]] == [PARENT]
        names = [f"data/augmented/{s}/gear_a/00-{v}.png" for s in ("id", "near_ood") for v in (0, 1)]
        assert [item["path"] for item in data["synthetic"]] == names
        assert [item["path"] for item in data["tokens"]] == ["models/tokens/gear_a.safetensors"]
        counts = {
            run["name"]: (
                run["trained_on_it"],
                run["trained_on_pictures_made_from_it"],
                run["trained_on_pictures_of_a_token_it_taught"],
            )
            for run in data["runs"]
        }
        assert counts == {"real-seed0": (1, 0, 0), "real_id-seed0": (1, 2, 8), "real_id_negatives-seed0": (1, 4, 16)}
    with pytest.raises(UserError, match="no photograph"):
        trace_source(project, "nobody.png")


def test_what_came_of_it_in_earlier_versions_is_found_too(changed):
    derived = trace_source(changed, PARENT).data
    assert len(derived["synthetic"]) == 6 and sum(item["in_workspace"] for item in derived["synthetic"]) == 4
    assert len(derived["runs"]) == 5  # real-seed0 did not run again
