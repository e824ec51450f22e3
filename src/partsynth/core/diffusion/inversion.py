"""Textual inversion (arXiv 2208.01618): word vectors learned through a frozen Stable Diffusion, all classes at once.

Only the new vectors are parameters, so the backward pass computes activations' gradients alone, and only as far up the
U-Net as its first cross-attention. Each class has its own random stream and its own loss; the classes share passes
through the U-Net for speed and nothing else. Passes have one shape whatever the number of classes, so that a class
learned alone gets the same bytes as among others (held by a test on the CPU).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partsynth.core.diffusion.model import StableDiffusion

LOWEST_NOISE = 0.1  # of the schedule: below it the image itself says all, and the words learn nothing
PASS = 16  # images per pass through the U-Net, half of it above 32 x 32 latents: memory; more is hardly faster
HALF_SCALE = 2.0**12  # float16 gradients vanish without it; Adam does not see it


@dataclass(frozen=True)
class Concept:
    """What one token is learned from."""

    token: str  # "<name>"
    latents: Tensor  # (N, C, h, w), scaled
    prompts: Sequence[Sequence[str]]  # of each image: the prompts to choose from, each with the token
    seed: int
    init_word: str  # its embedding is where the vectors start


class _Draw(NamedTuple):
    """A class's images of one step."""

    latents: Tensor  # (B, C, h, w)
    noise: Tensor  # (B, C, h, w)
    times: Tensor  # (B,) timesteps
    prompts: Tensor  # (B,) indices


class Inversion:
    """The joint training; one ``step`` at a time, its ``state`` saved and restored in between.

    Parameters
    ----------
    model
        Frozen; the tokens are installed in it.
    concepts
        One per class; in a step each class contributes ``batch_size`` images.
    vectors
        V, vectors per token; they start as its ``init_word``'s embedding plus noise of a twentieth of its size.
    learning_rate
        Of Adam, in units of the embedding; rises over ``warmup`` steps, then falls to zero as a cosine.

    Raises
    ------
    ValueError
        where the tokenizer does not know an ``init_word``, or a prompt is too long or lacks its token.
    """

    def __init__(
        self,
        model: StableDiffusion,
        concepts: Sequence[Concept],
        *,
        vectors: int,
        steps: int,
        batch_size: int,
        learning_rate: float,
        warmup: int,
    ) -> None:
        self.model, self.concepts = model, list(concepts)
        self.steps, self.batch_size, self.learning_rate, self.warmup = steps, batch_size, learning_rate, warmup
        start = []
        for concept in self.concepts:
            word = model.prompts.word_vector(concept.init_word)  # (width,)
            jitter = torch.randn(vectors, model.prompts.width, generator=_stream(concept.seed, -1)).to(word)
            start.append(word + 0.05 * word.square().mean().sqrt() * jitter)
            model.prompts.install_token(concept.token, start[-1])
        self.vectors = nn.Parameter(torch.stack(start).float())  # (K, V, width)
        self.optimiser = torch.optim.Adam([self.vectors], lr=learning_rate)
        self.done = 0
        self.losses = torch.zeros(steps, len(self.concepts))
        prompts = sorted({p for c in self.concepts for choice in c.prompts for p in choice})
        for concept in self.concepts:
            if any(concept.token not in p for choice in concept.prompts for p in choice):
                raise ValueError(f"a prompt of {concept.token} lacks the token")
        self._ids = torch.tensor([model.prompts.tokenise(p) for p in prompts])  # (P, L)
        self._prompt = {p: i for i, p in enumerate(prompts)}
        cells = math.prod(self.concepts[0].latents.shape[2:])
        self._pass = PASS if cells <= 32 * 32 else PASS // 2
        rows = [model.prompts.rows(concept.token) for concept in self.concepts]
        self._rows = torch.cat([torch.arange(r.start, r.stop) for r in rows]).to(model.device)

    def step(self) -> Tensor:
        """One optimiser step; returns the classes' losses (K,).

        Raises
        ------
        FloatingPointError
            naming the first class whose loss is not finite.
        """
        scale = HALF_SCALE if self.model.dtype == torch.float16 else 1.0
        together = max(1, self._pass // self.batch_size)
        parts = [
            self._backward(range(i, min(i + together, len(self.concepts))), together * self.batch_size, scale)
            for i in range(0, len(self.concepts), together)
        ]
        losses = torch.cat(parts)  # (K,)
        gradient = self.vectors.grad  # (K, V, width)
        assert gradient is not None  # every class was in a part
        gradient /= scale
        fine = losses.isfinite() & gradient.isfinite().flatten(1).all(1).cpu()  # (K,)
        if not fine.all():
            broken = self.concepts[int((~fine).nonzero()[0])].token
            raise FloatingPointError(f"{broken}: loss or gradient not finite at step {self.done} in {self.model.dtype}")
        self.optimiser.param_groups[0]["lr"] = self.learning_rate * self._schedule()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.losses[self.done] = losses
        self.done += 1
        return losses

    def result(self) -> dict[str, Tensor]:
        """The tokens' vectors (V, width) float32, also installed in the model."""
        found = {c.token: v.detach().cpu().clone() for c, v in zip(self.concepts, self.vectors, strict=True)}
        self.model.prompts.set_vectors(found)
        return found

    def state(self) -> dict[str, Tensor]:
        """All that changes from step to step; random numbers come from the step's index."""
        adam = self.optimiser.state.get(self.vectors, {})
        moments = {k: adam.get(k, torch.zeros_like(self.vectors)) for k in ("exp_avg", "exp_avg_sq")}
        return {"vectors": self.vectors.detach(), "done": torch.tensor(self.done), "losses": self.losses, **moments}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from ``state``: the rest of the training gives the same bytes as if it had never stopped."""
        self.done = int(state["done"])
        self.losses = state["losses"].clone()
        with torch.no_grad():
            self.vectors.copy_(state["vectors"])
        moments = {k: state[k].to(self.vectors.device).clone() for k in ("exp_avg", "exp_avg_sq")}
        self.optimiser.state[self.vectors] = {"step": torch.tensor(float(self.done)), **moments}

    def _backward(self, classes: range, size: int, scale: float) -> Tensor:
        """Losses (k,) of some classes; their gradients, times ``scale``, are added to the vectors'.

        The n = k x B images are padded to ``size`` with images of no weight.
        """
        device, draws = self.model.device, [self._draw(self.concepts[k]) for k in classes]
        latents = torch.cat([draw.latents for draw in draws])  # (n, C, h, w)
        noise = torch.cat([draw.noise for draw in draws])  # (n, C, h, w)
        times = torch.cat([draw.times for draw in draws])  # (n,)
        contexts: list[Tensor] = []
        which = []
        for draw in draws:
            # one call per class: its shape then depends on the class's own prompts
            used, index = draw.prompts.unique(return_inverse=True)  # (U,), (B,)
            which.append(index + sum(len(c) for c in contexts))
            contexts.append(self._context(used))  # (U, L, D)
        leaf = torch.cat([c.detach() for c in contexts]).requires_grad_()  # (sum of U, L, D)
        real = len(latents)
        padding = torch.tensor([*range(real), *[real - 1] * (size - real)])  # (size,)
        weights = (torch.arange(size) < real).float() * scale / self.batch_size  # (size,)
        alphas = torch.tensor(self.model.alphas)[times].view(-1, 1, 1, 1)  # (n, 1, 1, 1)
        a, b = alphas.sqrt(), (1 - alphas).sqrt()
        noisy = a * latents + b * noise  # (n, C, h, w)
        target = noise if self.model.prediction == "epsilon" else a * noise - b * latents  # (n, C, h, w)
        where = torch.cat(which)  # (n,) rows of leaf
        errors: list[Tensor] = []
        for rows in padding.split(self._pass):
            out = self.model.predict(noisy[rows].to(device), times[rows], leaf[where[rows].to(device)])  # (p, C, h, w)
            error = (out - target[rows].to(device)).square().mean((1, 2, 3))  # (p,)
            start = len(errors) * self._pass
            error.backward(weights[start : start + len(rows)].to(device))
            errors.append(error.detach().cpu())
        assert leaf.grad is not None  # (sum of U, L, D)
        torch.autograd.backward(contexts, list(leaf.grad.split([len(c) for c in contexts])))
        return torch.cat(errors)[:real].view(len(classes), self.batch_size).mean(1)  # (k, B) -> (k,)

    def _draw(self, concept: Concept) -> _Draw:
        stream, count = _stream(concept.seed, self.done), self.batch_size
        have = len(concept.latents)
        rounds = [torch.randperm(have, generator=stream) for _ in range(0, count, have)]
        images = torch.cat(rounds)[:count]  # (B,)
        noise = torch.randn(count, *concept.latents.shape[1:], generator=stream)  # (B, C, h, w)
        total = len(self.model.alphas)
        # one timestep from each of B equal strata: the same distribution, less noise in the gradient
        strata = (torch.arange(count) + torch.rand(count, generator=stream)) / count
        times = ((LOWEST_NOISE + (1 - LOWEST_NOISE) * strata) * total).long().clamp(max=total - 1)
        picks = torch.rand(count, generator=stream).tolist()
        choices = [concept.prompts[i] for i in images.tolist()]
        prompts = [self._prompt[c[int(p * len(c))]] for c, p in zip(choices, picks, strict=True)]
        return _Draw(concept.latents[images].cpu(), noise, times, torch.tensor(prompts))

    def _context(self, used: Tensor) -> Tensor:
        """Contexts (U, L, D) of the prompts ``used``, differentiable in the vectors."""
        return self.model.prompts.learning(self._ids[used], self._rows, self.vectors.flatten(0, 1))  # (K V, width)

    def _schedule(self) -> float:
        """Share of the peak learning rate.

        As ``schedules.warmup_cosine`` but for the last bit: the share of the way is rounded before it is multiplied by
        pi, and another learning rate would give tokens other bytes.
        """
        if self.done < self.warmup:
            return (self.done + 1) / (self.warmup + 1)
        progress = (self.done - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * progress))


def _stream(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + step) % 2**63)
