from __future__ import annotations

import pytest
import torch

from partsynth.config.training import Train
from partsynth.errors import UserError
from partsynth.training.devices import make_accelerator


def test_devices_and_precisions_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^train.device is cuda, but torch sees no CUDA device"):
        make_accelerator(Train(device="cuda"))
    with pytest.raises(UserError, match="fp16 needs a CUDA device"):
        make_accelerator(Train(precision="fp16"))
