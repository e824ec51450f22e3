"""Muon: orthogonalised momentum for matrices and kernels, Adam for vectors. It takes a SupCon encoder about twice as
far as AdamW in the few hundred steps that a CPU affords."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic coefficients and five steps as published
NEWTON_SCHULZ_STEPS = 5
MATCH_ADAM = 0.2  # root mean square of an Adam step: one learning rate fits matrices and vectors (arXiv 2502.16982)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1 (between about 0.7 and 1.2), its singular vectors kept."""
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) with Nesterov momentum and decoupled decay.

    Parameters of two or more dimensions are taken as matrices (first dimension x the rest) and decay; vectors (biases,
    normalisation) get Adam and do not. ``torch.optim.Muon`` takes matrices alone, so no convolution.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
    ):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._matrix_step if parameter.ndim > 1 else self._vector_step
                    update(parameter, parameter.grad, group)
        return loss

    def _matrix_step(self, parameter: Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalise(gradient.lerp(state["momentum"], group["momentum"]).flatten(1))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * MATCH_ADAM * max(update.shape) ** 0.5)

    def _vector_step(self, parameter: Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            state["step"] = torch.zeros((), device=gradient.device)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        parameter.sub_(group["lr"] * mean / (square.sqrt() + 1e-8))
