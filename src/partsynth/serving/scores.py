"""The OOD scores in tensor algebra, for a graph: what ``core.evaluation.scores`` computes in NumPy, in float32.

Each is made from what the evaluation fitted (``Known``) and maps features (B, D) and logits (B, C) to scores (B,).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.evaluation.ood import Array, Gaussian, Known, unit
from partsynth.core.evaluation.scores.vim import residual_space
from partsynth.errors import UserError, either


def to_tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


class Knn(nn.Module):
    bank: Tensor

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.k = known.k
        self.register_buffer("bank", to_tensor(known.bank))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return nearest(features, self.bank, self.k)[1][:, -1]


class KnnByClass(Knn):
    typical: Tensor

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.register_buffer("typical", to_tensor(known.typical))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return super().forward(features, logits) / self.typical[logits.argmax(1)]


class MaxSoftmax(nn.Module):
    def __init__(self, known: Known) -> None:
        super().__init__()
        self.classes = len(known.bias)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        # the sum of the others: one minus the largest would cancel near 1
        return logits.softmax(1).topk(self.classes, dim=1).values[:, 1:].sum(1)


class Energy(nn.Module):
    def __init__(self, known: Known) -> None:
        super().__init__()

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return -torch.logsumexp(logits, 1)


class Distances(nn.Module):
    """Squared Mahalanobis distances (B, K), as squared lengths of mapped differences: nothing cancels in float32."""

    means: Tensor
    factor: Tensor

    def __init__(self, gaussian: Gaussian) -> None:
        super().__init__()
        values, vectors = np.linalg.eigh(gaussian.precision)
        factor = vectors * np.sqrt(np.maximum(values, 0))  # precision = factor @ factor.T
        self.register_buffer("means", to_tensor(gaussian.means @ factor))
        self.register_buffer("factor", to_tensor(factor))

    def forward(self, features: Tensor) -> Tensor:
        return ((features @ self.factor)[:, None] - self.means).square().sum(2)


class Mahalanobis(nn.Module):
    def __init__(self, known: Known) -> None:
        super().__init__()
        self.classes = Distances(known.classes)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.classes(features).amin(1)


class RelativeMahalanobis(Mahalanobis):
    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.background = Distances(known.background)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return super().forward(features, logits) - self.background(features)[:, 0]


class Vim(nn.Module):
    origin: Tensor
    residual: Tensor

    def __init__(self, known: Known) -> None:
        super().__init__()
        origin, residual, alpha = residual_space(known)
        self.register_buffer("origin", to_tensor(origin))
        self.register_buffer("residual", to_tensor(alpha * residual))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return ((features - self.origin) @ self.residual).square().sum(1).sqrt() - torch.logsumexp(logits, 1)


class PrototypeCosine(nn.Module):
    prototypes: Tensor

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.register_buffer("prototypes", to_tensor(unit(known.one_hot.T @ known.bank / known.sizes)))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return 1 - (F.normalize(features, dim=1) @ self.prototypes.T).amax(1)


GRAPHS: dict[str, Callable[[Known], nn.Module]] = {
    "knn": Knn,
    "knn_by_class": KnnByClass,
    "max_softmax": MaxSoftmax,
    "energy": Energy,
    "mahalanobis": Mahalanobis,
    "relative_mahalanobis": RelativeMahalanobis,
    "vim": Vim,
    "prototype_cosine": PrototypeCosine,
}


def graph_of(name: str, known: Known) -> nn.Module:
    """The score of this name.

    Raises
    ------
    UserError
        where there is no graph of it (a score from outside the package).
    """
    if name not in GRAPHS:
        raise UserError(
            f"evaluate.headline_score {name!r} cannot be exported; {either(list(GRAPHS))} can: set it to one of them"
        )
    return GRAPHS[name](known)


def nearest(features: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices (B, k) of the rows of ``bank`` (N, D), of unit length, nearest to the unit features, and distances."""
    own = F.normalize(features, dim=1)
    index = (own @ bank.T).topk(k, dim=1).indices
    return index, (bank[index] - own[:, None]).square().sum(2).sqrt()
