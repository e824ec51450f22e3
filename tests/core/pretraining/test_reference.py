from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.pretraining import quiet, random_images

from partsynth.core.drift import reference
from partsynth.core.pretraining.reference import VariantSampler, spoil, train_reference, tune_reference


def test_reference_encoder_trains_and_loads(tmp_path: Path) -> None:
    variants = torch.tensor([0, 0, 0, 1, 1, 1, 2])  # the last one has no partner and is left out
    net = train_reference(
        random_images(7, 64),
        variants,
        steps=2,
        seed=0,
        state=None,
        log=quiet,
        variants_per_step=2,
        images_per_variant=2,
    )
    reference.save(net, tmp_path, 64)
    features = reference.load(str(tmp_path))(random_images(3, 64).numpy())
    assert features.shape == (3, 128)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_tuning_goes_on_from_the_given_weights_and_sees_what_the_vae_makes() -> None:
    variants, families = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    settings: dict[str, Any] = {"steps": 2, "seed": 0, "state": None, "log": quiet}
    settings |= {"variants_per_step": 2, "images_per_variant": 2}

    def tuned(round_trips: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = reference.ReferenceNet((8, 8), 4)
        before = [p.detach().clone() for p in net.parameters()]
        net = tune_reference(net.eval(), random_images(4), round_trips, variants, families, **settings)
        assert not net.training
        return [after - start for after, start in zip(net.parameters(), before, strict=True)]

    moved, otherwise = tuned(random_images(4)), tuned(255 - random_images(4))
    assert all(0 < step.abs().max() < 0.01 for step in moved)  # two small steps, not new weights
    assert not all(torch.equal(a, b) for a, b in zip(moved, otherwise, strict=True))


def test_a_step_draws_whole_variants_and_every_other_one_keeps_to_few_families() -> None:
    variants = torch.arange(24) // 2  # twelve variants of two pictures ...
    variants = torch.cat([variants, torch.tensor([12])])  # ... and one picture that has no partner
    families = torch.tensor([v // 4 for v in variants.tolist()])
    sampler = VariantSampler(variants, families)
    spread = []
    for seed in range(40):
        index = sampler.draw(4, 3, torch.Generator().manual_seed(seed))
        found = variants[index].view(4, 3)
        assert (found == found[:, :1]).all() and len(found[:, 0].unique()) == 4 and 12 not in found
        spread.append(len(families[index].unique()))
    assert 10 <= spread.count(1) <= 30  # four variants fill one family
    assert max(spread) == 3
    plain = VariantSampler(variants)
    assert (
        len({len(families[plain.draw(4, 3, torch.Generator().manual_seed(s))].unique()) for s in range(9)} - {1}) >= 1
    )


def test_spoilt_pictures_are_of_three_kinds() -> None:
    batch = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spoilt = spoil(batch, torch.Generator().manual_seed(1))
    inverted = (spoilt == -batch).flatten(1).all(1)
    smooth = spoilt.diff(dim=3).abs().mean((1, 2, 3)) < 0.5 * batch.diff(dim=3).abs().mean((1, 2, 3))
    assert inverted.sum() == 2 and smooth.sum() == 2 and not (inverted & smooth).any()
    assert spoilt.abs().max() <= 1
