from __future__ import annotations

import pytest
import torch

from partsynth.config.training import Train
from partsynth.errors import UserError
from partsynth.training.devices import make_accelerator


def test_threads_are_those_of_the_parameters_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        make_accelerator(Train(device="cpu", threads=1))
        assert torch.get_num_threads() == 1
        make_accelerator(Train(device="cpu", threads=3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_devices_and_precisions_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^train.device is cuda, but torch sees no CUDA device"):
        make_accelerator(Train(device="cuda"))
    with pytest.raises(UserError, match="fp16 needs a CUDA device"):
        make_accelerator(Train(precision="fp16"))
