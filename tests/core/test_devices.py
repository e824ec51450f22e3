from __future__ import annotations

import pytest
import torch

from partsynth.core.devices import pick, use_threads


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_cuda_where_there_is_one(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick() == pick("auto") == ("cuda" if there else "cpu")
    assert pick("cpu") == "cpu"


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no CUDA device: set it to auto or cpu"):
        pick("cuda")
    with pytest.raises(ValueError, match="device is 'gpu'; allowed: auto, cpu, cuda"):
        pick("gpu")


def test_torch_has_the_threads_that_are_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(1)
        assert torch.get_num_threads() == 1
        use_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
