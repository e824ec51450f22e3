"""Prompts as SDXL's U-Net sees them (arXiv 2307.01952, section 2): two text encoders side by side, and a pooled vector.

A prompt's conditioning is one tensor (L + 1, D1 + D2), as everywhere here: its last row is the second encoder's pooled
vector (P,), filled up with zeros. So batches, guidance and learning treat it like any other context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from partsynth.core.diffusion.words import PromptEncoder

NAMES = ("clip_l", "clip_g")  # of the encoders' vectors in files, as diffusers and others write them


class HiddenStates(PromptEncoder):
    """A text encoder whose last layer but one is attended to."""

    def __init__(self, tokenizer: Any, text_encoder: Any, device: torch.device) -> None:
        super().__init__(tokenizer, text_encoder, device)
        # older configurations say 2, and then the pooled vector is that of the greatest id: a learned token's
        for module in text_encoder.modules():
            if hasattr(module, "eos_token_id"):
                module.eos_token_id = tokenizer.eos_token_id

    def states(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids (B, L) -> hidden states (B, L, D), and the pooled vectors (B, P) of an encoder with a projection."""
        out = self.text_encoder(ids.to(self.device), output_hidden_states=True)
        return out.hidden_states[-2], getattr(out, "text_embeds", None)


class PromptPair:
    """Two encoders that learn the same tokens: a vector is the first's beside the second's.

    Parameters
    ----------
    empty_is_zero : whether the empty prompt's conditioning is zeros, as the model was trained

    Raises
    ------
    ValueError
        where the second encoder has no projection, or its pooled vector does not fit.
    """

    def __init__(self, first: HiddenStates, second: HiddenStates, empty_is_zero: bool) -> None:
        self.first, self.second, self.empty_is_zero = first, second, empty_is_zero
        self.both = (first, second)
        self.pooled = int(getattr(second.text_encoder.config, "projection_dim", 0))
        if first.length != second.length:
            raise ValueError(f"its text encoders take {first.length} and {second.length} tokens")
        self.length = first.length
        self._contexts: dict[str, Tensor] = {}

    @property
    def encoders(self) -> tuple[Any, ...]:
        """The networks."""
        return tuple(part.text_encoder for part in self.both)

    @property
    def width(self) -> int:
        """Width of a word vector: both encoders'."""
        return self.first.width + self.second.width

    def word_vector(self, word: str) -> Tensor:
        """The embedding (width,) of a word. Raises ValueError where a tokenizer does not know it."""
        return torch.cat([part.word_vector(word) for part in self.both])

    def install_token(self, name: str, vectors: Tensor) -> None:
        """As ``PromptEncoder.install_token``, in both encoders."""
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise ValueError(f"{name}: vectors of shape {tuple(vectors.shape)}, the model takes (V, {self.width})")
        for part, own in zip(self.both, self._split(vectors), strict=True):
            part.install_token(name, own)
        self._contexts.clear()

    def set_vectors(self, vectors: Mapping[str, Tensor]) -> None:
        """Replace the vectors (V, width) of installed tokens."""
        for i, part in enumerate(self.both):
            part.set_vectors({name: self._split(value)[i] for name, value in vectors.items()})
        self._contexts.clear()

    def rows(self, name: str) -> slice:
        """Where an installed token's vectors lie in both encoders' tables."""
        return self.first.rows(name)

    def tokenise(self, prompt: str) -> list[list[int]]:
        """The prompt's ids, of each tokenizer (2, L). Raises ValueError as ``PromptEncoder.tokenise`` does."""
        return [part.tokenise(prompt) for part in self.both]

    def context(self, ids: Tensor) -> Tensor:
        """Ids (B, 2, L) -> what the U-Net sees (B, L + 1, D1 + D2) float32; see the module."""
        states, pooled = zip(*(part.states(ids[:, i]) for i, part in enumerate(self.both)), strict=True)
        hidden = torch.cat(states, dim=-1)  # (B, L, D1 + D2)
        if pooled[1] is None or self.pooled > hidden.shape[-1]:
            raise ValueError("its second text encoder makes no pooled vector that fits: it is no SDXL")
        last = torch.nn.functional.pad(pooled[1], (0, hidden.shape[-1] - self.pooled))  # (B, D1 + D2)
        return torch.cat([hidden, last[:, None]], dim=1)

    def learning(self, ids: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
        """As ``context``, with ``vectors`` (n, width) in place of those in these rows (n,), differentiable in them."""
        before = [part.words.added for part in self.both]
        try:
            for part, added, own in zip(self.both, before, self._split(vectors), strict=True):
                part.words.added = added.index_copy(0, rows, own)
            return self.context(ids)
        finally:
            for part, added in zip(self.both, before, strict=True):
                part.words.added = added

    def as_tensors(self, vectors: Tensor) -> dict[str, Tensor]:
        """A token's vectors (V, width) by encoder."""
        return dict(zip(NAMES, self._split(vectors), strict=True))

    def from_tensors(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The vectors (V, width) again. Raises ValueError where they are another family's."""
        if set(tensors) != set(NAMES):
            raise ValueError(
                f"it holds {', '.join(sorted(tensors))}, not {' and '.join(NAMES)}: another family of models learned it"
            )
        return torch.cat([tensors[name] for name in NAMES], dim=1)

    @torch.no_grad()
    def embed(self, prompt: str, vectors: Mapping[str, Tensor] | None = None) -> Tensor:
        """A prompt's conditioning (L + 1, D1 + D2) float32; ``vectors`` stand in for installed ones in this call alone.

        One prompt at a time, so that its bytes depend on nothing else; plain calls are cached.
        """
        if vectors is None and prompt in self._contexts:
            return self._contexts[prompt]
        ids = torch.tensor([self.tokenise(prompt)])  # (1, 2, L)
        if vectors is None:
            found = self.context(ids)[0]
            self._contexts[prompt] = torch.zeros_like(found) if not prompt and self.empty_is_zero else found
            return self._contexts[prompt]
        rows = torch.cat([torch.arange(s.start, s.stop) for s in map(self.rows, vectors)]).to(self.first.device)
        return self.learning(ids, rows, torch.cat(list(vectors.values())).to(self.first.words.added))[0]

    def _split(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        first, second = vectors.split([self.first.width, self.second.width], dim=1)
        return first.contiguous(), second.contiguous()
