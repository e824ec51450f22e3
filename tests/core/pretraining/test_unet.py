from __future__ import annotations

from typing import Any

import numpy as np
import torch
from helpers.pretraining import CAPTIONS, quiet

from partsynth.core.pretraining.networks import build_text_encoder, build_unet, tokenize
from partsynth.core.pretraining.unet import train_unet


def test_unet_and_text_encoder_learn_together(words: Any) -> None:
    torch.manual_seed(0)
    before = build_unet()
    text = build_text_encoder(words)
    start = [p.detach().clone() for p in (*before.parameters(), *text.parameters())]
    latents = torch.randn(2, 4, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    ids = tokenize(words, CAPTIONS[:8]).view(4, 2, -1)
    unet, text = train_unet(
        latents, ids, words, steps=2, batch_size=2, caption_dropout=0.5, ema=0.5, seed=0, state=None, log=quiet
    )
    after = [*unet.parameters(), *text.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(start, after, strict=True)]
    assert np.mean(moved) > 0.9 and not unet.training and not text.training
