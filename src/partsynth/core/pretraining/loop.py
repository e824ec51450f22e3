"""One resumable training loop for all parts of the embedded base model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from partsynth.core.schedules import cosine_with_warmup

Log = Callable[[int, dict[str, float]], None]
FLOOR = 0.02  # of the learning rate, at the end
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's


class Best(NamedTuple):
    """The least value measured so far, the steps done by then, and the weights."""

    step: int
    value: float
    weights: list[Tensor]


class State(Protocol):
    """Where a loop keeps what it needs to go on; ``store.state.SavedState`` is one."""

    def load(self) -> Mapping[str, Tensor] | None: ...

    def save(self, tensors: Mapping[str, Tensor]) -> None: ...


class Loop:
    """AdamW, warm-up and cosine decay, EMA, bf16 autocast, and a state that a killed run goes on from.

    The state is weights, averages and AdamW's moments by name, and the number of steps done. Random choices of step
    ``i`` come from a generator seeded by (seed, i), so a resumed run draws what the unbroken one would have drawn.

    Parameters
    ----------
    modules : by name; their parameters that require gradients are trained.
    state : saved every ``every`` steps and at the end; None = never.
    mixed : bf16 autocast; else in the parameters' own format.
    ema : decay of the weights' average, which the modules hold in the end; None = the last weights themselves.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        *,
        steps: int,
        learning_rate: float,
        device: str,
        seed: int,
        state: State | None,
        ema: float | None = None,
        warmup: int = 200,
        weight_decay: float = 0.01,
        every: int = 1000,
        mixed: bool = True,
    ) -> None:
        self.steps, self.learning_rate, self.warmup, self.every = steps, learning_rate, warmup, every
        self.mixed = mixed
        self.best: Best | None = None
        self.device, self.seed, self.state, self.ema_decay = device, seed, state, ema or 0.0
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        for module_name, module in modules.items():
            module.to(device)
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    self.names.append(f"{module_name}.{name}")
                    self.parameters.append(parameter)
        self.averages = [p.detach().clone() for p in self.parameters] if ema else []
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=device == "cuda"
        )
        self.start = self._resume()

    def run(
        self,
        loss_of: Callable[[torch.Generator], Tensor],
        log: Log,
        log_every: int = 200,
        measure: Callable[[], float] | None = None,
        patience: int = 0,
    ) -> None:
        """Take the steps that are left; ``loss_of`` draws its batch from the step's own generator.

        Parameters
        ----------
        measure : less is better; asked before the first step and wherever the state is saved. The modules end with the
            weights of its least value, which may be those they began with; it needs ``ema=None``.
        patience : the loop ends after so many measurements in a row without a new least value; 0 = never.

        Raises
        ------
        FloatingPointError
            where the loss is not finite.
        """
        total, count = torch.zeros((), device=self.device), 0
        if measure is not None and self.best is None:
            self._keep_best(self.start, measure())
        for step in range(self.start, self.steps):
            if self.best is not None and patience and step - self.best.step >= patience * self.every:
                break
            generator = torch.Generator(device=self.device).manual_seed(self.seed * 1_000_003 + step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * cosine_with_warmup(step, self.steps, self.warmup, FLOOR)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed):
                loss = loss_of(generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            if self.averages:
                decay = min(self.ema_decay, (1 + step) / (10 + step))
                torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)
            total, count = total + loss.detach().float(), count + 1
            if (step + 1) % log_every == 0 or step + 1 == self.steps:
                mean = (total / count).item()
                if not math.isfinite(mean):
                    raise FloatingPointError(f"the loss is {mean} at step {step + 1}: lower the learning rate")
                log(step + 1, {"loss": mean})
                total, count = torch.zeros((), device=self.device), 0
            if (step + 1) % self.every == 0 or step + 1 == self.steps:
                if measure is not None:
                    self._keep_best(step + 1, measure())
                if self.state is not None:
                    self.state.save(self._tensors(step + 1))
        if self.best is not None:
            with torch.no_grad():
                for parameter, weight in zip(self.parameters, self.best.weights, strict=True):
                    parameter.copy_(weight)
        if self.averages:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self.averages, strict=True):
                    parameter.copy_(average)

    def _keep_best(self, step: int, value: float) -> None:
        if self.best is None or value < self.best.value:
            self.best = Best(step, value, [p.detach().clone() for p in self.parameters])

    def _tensors(self, step: int) -> dict[str, Tensor]:
        tensors = {"step": torch.tensor(step)}
        if self.best is not None:
            tensors["best"] = torch.tensor([self.best.step, self.best.value], dtype=torch.float64)
            tensors |= {f"best.{name}": weight for name, weight in zip(self.names, self.best.weights, strict=True)}
        for i, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
            tensors[f"weight.{name}"] = parameter.detach()
            tensors |= {f"{key}.{name}": self.optimizer.state[parameter][key] for key in MOMENTS}
            if self.averages:
                tensors[f"average.{name}"] = self.averages[i]
        return tensors

    def _resume(self) -> int:
        """Restore in place; the steps already done."""
        if self.state is None or (tensors := self.state.load()) is None:
            return 0
        step = int(tensors["step"])
        if "best" in tensors:
            at, value = tensors["best"].tolist()
            self.best = Best(int(at), value, [tensors[f"best.{name}"].to(self.device) for name in self.names])
        with torch.no_grad():
            for i, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
                parameter.copy_(tensors[f"weight.{name}"])
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=self.device if self.device == "cuda" else "cpu"),
                    **{key: tensors[f"{key}.{name}"].to(self.device) for key in MOMENTS},
                }
                if self.averages:
                    self.averages[i].copy_(tensors[f"average.{name}"])
        return step


def draw_batch(images: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` images (count, 3, S, S) in [-1, 1], half of them mirrored, and their indices."""
    index = torch.randint(len(images), (count,), generator=generator, device=images.device)
    batch = as_floats(images[index])
    mirrored = torch.rand(count, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch), index


def as_floats(images: Tensor) -> Tensor:
    """uint8 (N, S, S, 3) -> (N, 3, S, S) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
