"""SupCon on the backbone's features too, with the same negatives: what kNN distances are measured in."""

from __future__ import annotations

from torch import Tensor, nn

from partsynth.config.training import Train
from partsynth.core.contrastive.encoder import Encoder
from partsynth.core.contrastive.exposure import Beside
from partsynth.core.contrastive.losses import supcon_loss
from partsynth.training.use import Seen, Use


class Features(Use):
    """The projection takes up most of what SupCon does to an embedding; this term acts below it."""

    name = "features"

    def network(self, encoder: Encoder, classes: int, params: Train, seed: int) -> nn.Module:
        return Beside(encoder)

    def term(self, seen: Seen, params: Train) -> Tensor | None:
        """Weight x SupCon of the unit features, with SupCon's own temperature, weight and scope of negatives."""
        return params.negative_use_weight * supcon_loss(
            seen.beside,
            seen.labels,
            seen.is_negative,
            temperature=params.temperature,
            negative_weight=params.negative_weight,
            negatives=params.negative_scope,
        )


MEMBER = Features()
