from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata, write_safetensors

names = st.text(st.characters(codec="ascii", exclude_categories=("C",)), min_size=1, max_size=8)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(metadata=st.dictionaries(names, st.text(max_size=8).filter(str.isprintable), max_size=5))
def test_order_of_metadata_does_not_matter_to_the_bytes(tmp_path: Path, metadata: dict[str, str]) -> None:
    path, tensors = tmp_path / "a.safetensors", {"b": torch.arange(6.0).view(2, 3).T, "a": torch.zeros(())}
    sha = write_safetensors(path, tensors, metadata)
    assert sha256_file(path) == sha == write_safetensors(path, tensors, dict(reversed(metadata.items())))
    assert safetensors_metadata(path) == metadata
    assert torch.equal(load_file(path)["b"], tensors["b"])


def test_a_missing_or_torn_file_has_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert safetensors_metadata(path) is None
    write_safetensors(path, {"a": torch.rand(9)}, {"fingerprint": "f"})
    path.write_bytes(path.read_bytes()[:-3])
    assert safetensors_metadata(path) is None
