from __future__ import annotations

from pathlib import Path

import torch

from partsynth.store.state import SavedState


def test_what_was_saved_is_loaded_by_the_same_computation_alone(tmp_path: Path) -> None:
    state = SavedState(tmp_path / "work/a.safetensors", "identity")
    assert state.load() is None
    strided = torch.arange(6.0).view(2, 3).T
    state.save({"step": torch.tensor(3), "weights": strided})
    loaded = state.load()
    assert loaded is not None and set(loaded) == {"step", "weights"}
    assert int(loaded["step"]) == 3 and torch.equal(loaded["weights"], strided)
    assert SavedState(state.path, "another").load() is None


def test_a_torn_file_counts_as_missing(tmp_path: Path) -> None:
    state = SavedState(tmp_path / "a.safetensors", "identity")
    state.save({"weights": torch.rand(100)})
    state.path.write_bytes(state.path.read_bytes()[:-10])
    assert state.load() is None
    state.path.write_bytes(b"")
    assert state.load() is None


def test_deleting_takes_an_empty_folder_along(tmp_path: Path) -> None:
    first, second = (SavedState(tmp_path / f"work/{name}", name) for name in "ab")
    first.save({"x": torch.zeros(1)})
    second.save({"x": torch.zeros(1)})
    first.delete()
    assert second.load() is not None and first.load() is None
    second.delete()
    second.delete()
    assert not (tmp_path / "work").exists()
