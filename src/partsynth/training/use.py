"""What training does with negatives: one file in ``uses`` with a subclass's object as ``MEMBER``.

SupCon is the same for all; a use adds a term to its loss, and may make images of its own for it. Whatever a use does
without negatives it does in a setup that has none, too: setups then differ by the negatives alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from partsynth.config.training import Train
from partsynth.core.contrastive.batches import Step
from partsynth.core.contrastive.encoder import Encoder
from partsynth.core.contrastive.exposure import Beside, soft_cross_entropy, softened
from partsynth.core.images import views
from partsynth.errors import UserError
from partsynth.store.hashing import seed_from
from partsynth.training.images import TrainingImages, random_views

PROBE_ROUNDS = 4  # random views of each negative, beside itself, that the linear probe is shown


@dataclass(frozen=True, kw_only=True)
class Making:
    """What a use makes images from."""

    network: nn.Module
    pixels: Tensor  # uint8 (n, S, S, 3), all training images
    params: Train
    seed: int  # of this step
    rank: int = 0
    processes: int = 1

    def own(self, count: int) -> slice:
        """This process's share of ``count`` images of the step.

        Raises
        ------
        UserError
            where they cannot be shared.
        """
        if count % self.processes:
            raise UserError(
                f"a step makes {count} images beside its own, no multiple of {self.processes} processes: change "
                "train.negatives"
            )
        rows = count // self.processes
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def views(self, indices: np.ndarray, what: str) -> Tensor:
        """Random views (m, 3, S, S) of this process's share of the images at ``indices``, drawn for all of them."""
        rows = self.own(len(indices))
        draws = views.draw(len(indices), seed_from(what, self.seed))[rows]
        index = torch.from_numpy(np.ascontiguousarray(indices[rows])).to(self.pixels.device)
        return random_views(self.pixels[index], draws, self.params)


@dataclass(frozen=True)
class Made:
    """Images (m, 3, S, S) that a use made, with what the head's softmax shall be on each (m, C)."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Seen:
    """What the network makes of a step, on all processes: N samples of two views, and e images that were made."""

    embeddings: Tensor  # (N, 2, D), unit length
    beside: Tensor  # (N, 2, E): logits, or unit features
    labels: Tensor  # (N,)
    is_negative: Tensor  # (N,) bool
    made: Tensor  # (e, E)
    targets: Tensor  # (e, C)


class Use:
    """A use of negatives."""

    name: str
    """As ``train.negative_use`` has it."""
    nobodys = False
    """Whether it teaches that negatives are of no class; an image of a class may then be none."""

    def network(self, encoder: Encoder, classes: int, params: Train, seed: int) -> nn.Module:
        """What is trained; its rows' first columns are the embedding."""
        return encoder

    def made(self, making: Making, drawn: Step) -> Made | None:
        """Images of this process that join the step."""
        return None

    def term(self, seen: Seen, params: Train) -> Tensor | None:
        """What is added to SupCon's loss, of the whole batch."""
        return None

    def shown(self, making: Making, images: TrainingImages) -> list[Made]:
        """What the linear probe is shown beside the positives, once the encoder is trained."""
        return []


class Exposing(Use):
    """Trains a linear head on the backbone's features: cross-entropy on what is of a class, and uniform on what is not.

    The encoder learns from both, by ``head_gradient`` of the head's gradient. The linear probe is then fitted to the
    frozen features with the same two terms, so that max softmax and energy are those of a head that knows what is of
    no class.
    """

    nobodys = True

    def network(self, encoder: Encoder, classes: int, params: Train, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_from("head", seed))
            head = nn.Linear(encoder.feature_dim, classes)
        return Beside(encoder, head, params.head_gradient)

    def term(self, seen: Seen, params: Train) -> Tensor | None:
        """Cross-entropy of the in-distribution rows + weight x that of what is exposed."""
        logits, labels = seen.beside[~seen.is_negative], seen.labels[~seen.is_negative]
        known = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))
        return known + params.negative_use_weight * self.exposed(seen)

    def exposed(self, seen: Seen) -> Tensor:
        """The loss on what is of no class: the images that were made."""
        return soft_cross_entropy(seen.made, seen.targets)


def uniform(count: int, classes: int, device: torch.device) -> Tensor:
    """(count, classes) of 1 / classes."""
    return softened(torch.zeros(count, dtype=torch.long, device=device), torch.zeros(count, device=device), classes)


def classes_of(network: nn.Module) -> int:
    """Outputs of the head of an exposing use's network."""
    if not isinstance(network, Beside) or network.head is None:
        raise TypeError("not the network of a use that exposes")
    return network.head.out_features


@torch.no_grad()
def shown_features(encoder: Encoder, shown: Sequence[Made], batch_size: int) -> tuple[Tensor, Tensor] | None:
    """Features (m, D) and targets (m, C) of what the linear probe is shown; None where that is nothing."""
    images, targets = [part for made in shown for part in made.images.split(batch_size)], [m.targets for m in shown]
    if not images:
        return None
    return torch.cat([encoder.features(part) for part in images]), torch.cat(targets)
