"""Identities: the same for the same content, on every machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsynth.config.training import Train
from partsynth.store.hashing import fingerprint, seed_from, sha256_tree

words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)


def test_fingerprint_knows_no_order_of_keys_and_no_type_of_carrier() -> None:
    assert fingerprint({"a": 1, "b": [Path("x/y")]}) == fingerprint({"b": ["x/y"], "a": np.int64(1)})
    assert fingerprint(Train()) == fingerprint(Train().model_dump(mode="json"))
    assert fingerprint(Train()) != fingerprint(Train(temperature=0.2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_has_no_canonical_form_has_no_fingerprint(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint(value)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_from("id", "a/1.png", 0) == 7935263347112768218
    assert seed_from("a", "bc") != seed_from("ab", "c")


@given(st.lists(st.one_of(words, st.integers(), st.none()), max_size=4))
def test_a_seed_fits_torch(identity: list[object]) -> None:
    assert 0 <= seed_from(*identity) < 2**63


def test_tree_hash_sees_names_and_contents_and_no_caches(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("1")
    before = sha256_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/x.pyc").write_text("1")
    assert sha256_tree(tmp_path) == before
    (tmp_path / "a/x.txt").rename(tmp_path / "a/y.txt")
    assert sha256_tree(tmp_path) != before


def test_numpy_is_not_imported_for_it() -> None:
    code = "import sys; from partsynth.store.hashing import seed_from; seed_from(1); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
