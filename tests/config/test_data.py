"""Section ingest."""

from __future__ import annotations

import pytest
from helpers.params import faults

from partsynth.config.data import Ingest


def test_shifted_photographs_are_for_the_folder_source(tmp_path):
    for source in ("rendered", "mvip"):
        assert "only for source: folder" in faults(tmp_path, {"ingest": {"source": source, "shifted": "there"}})
    assert Ingest(source="folder", shifted="there").shifted == "there"


def test_a_key_that_is_not_used_is_in_no_dump():
    """So that runs from before it was there keep their parameters."""
    assert "shifted" not in Ingest().model_dump()
    assert Ingest(source="folder", shifted="there").model_dump()["shifted"] == "there"


@pytest.mark.parametrize("pattern", ["(", "spot"])
def test_a_pattern_needs_a_group(tmp_path, pattern):
    assert "ingest.group_pattern" in faults(tmp_path, {"ingest": {"group_pattern": pattern}})
