"""MixOE (Zhang et al. 2021, arXiv 2106.03917): images between a class and a negative, with a label between the class
and uniform, so that confidence falls off on the way out of a class."""

from __future__ import annotations

import numpy as np
import torch

from partsynth.core.contrastive.batches import Step
from partsynth.core.contrastive.exposure import mixed, softened
from partsynth.store.hashing import seed_from
from partsynth.training.images import TrainingImages
from partsynth.training.use import PROBE_ROUNDS, Exposing, Made, Making, classes_of


class MixOE(Exposing):
    """Linear mixing, the share of the class drawn from Beta(alpha, alpha)."""

    name = "mixoe"

    def made(self, making: Making, drawn: Step) -> Made | None:
        """As many as the step has negatives: each is mixed with an in-distribution image of the step."""
        return _mixed(making, drawn.first[~drawn.is_negative], drawn.labels[~drawn.is_negative], drawn.negatives)

    def shown(self, making: Making, images: TrainingImages) -> list[Made]:
        """Each negative mixed with a positive, several times."""
        positives, negatives = np.flatnonzero(~images.is_negative), np.flatnonzero(images.is_negative)
        found = _mixed(making, positives, images.labels[positives], np.repeat(negatives, 1 + PROBE_ROUNDS))
        return [] if found is None else [found]


def _mixed(making: Making, positives: np.ndarray, labels: np.ndarray, negatives: np.ndarray) -> Made | None:
    if not len(negatives):
        return None
    rng = np.random.default_rng(seed_from("mix", making.seed))
    pick = rng.integers(len(positives), size=len(negatives))
    alpha, own = making.params.mix_alpha, making.own(len(negatives))
    share = torch.from_numpy(rng.beta(alpha, alpha, len(negatives))[own].astype(np.float32)).to(making.pixels.device)
    images = mixed(making.views(positives[pick], "mix ID"), making.views(negatives, "mix negative"), share)
    chosen = torch.from_numpy(np.ascontiguousarray(labels[pick][own])).to(making.pixels.device)
    return Made(images, softened(chosen, share, classes_of(making.network)))


MEMBER = MixOE()
