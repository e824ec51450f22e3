"""The base model's corpus as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.corpus import fake_corpus

from partsynth.errors import UserError
from partsynth.rendering import corpus


def test_the_corpus_is_read_in_order_and_up_to_a_limit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no shards"):
        corpus.load_corpus(tmp_path)
    fake_corpus(tmp_path, 11, 0, 1)
    whole = corpus.load_corpus(tmp_path)
    assert len(whole["images"]) == 11 and whole["captions"].shape == (11, 3)
    part = corpus.load_corpus(tmp_path, 7)
    assert np.array_equal(part["images"], whole["images"][:7]) and len(part["states"]) == 7


def test_shards_begin_at_multiples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 125"):
        corpus.render_corpus(tmp_path, 1, 0, 1, start=3)


@pytest.mark.slow
def test_a_shard_is_a_function_of_seed_and_number_and_is_kept(tmp_path: Path) -> None:
    first = corpus.render_corpus(tmp_path / "a", 2, 7, workers=1)
    assert json.loads((tmp_path / "a/corpus.json").read_text()) == first
    assert first["count"] == 2 == sum(first["families"].values()) == sum(first["states"].values())
    shard = corpus.shard_path(tmp_path / "a", 0)
    again = corpus.make_shard(tmp_path / "b", 0, 0, 2, 7)
    assert again.read_bytes() == shard.read_bytes()
    before = shard.stat().st_mtime_ns
    assert corpus.render_corpus(tmp_path / "a", 2, 7, workers=1) == first and shard.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="delete it and run again"):
        corpus.render_corpus(tmp_path / "a", 3, 7, workers=1)
