"""Prompts as the U-Net sees them, with words that were learned: the text side of Stable Diffusion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TOKEN = re.compile(r"<[^<>|]+>")


class TokenTable(nn.Module):
    """Word embeddings whose ids from ``first`` on are read from ``added`` (N, width) instead of the vocabulary."""

    def __init__(self, words: nn.Embedding, first: int) -> None:
        super().__init__()
        self.words = words
        self.first = first
        self.added = words.weight.new_zeros(0, words.embedding_dim)

    def forward(self, ids: Tensor) -> Tensor:
        out = self.words(ids.clamp(max=self.first - 1))  # (B, L, width)
        if len(self.added):
            added = self.added[(ids - self.first).clamp(min=0)]
            out = torch.where((ids >= self.first)[..., None], added, out)
        return out


class PromptEncoder:
    """Tokenizer and text encoder, float32, with room for learned tokens.

    Raises
    ------
    ValueError
        where the tokenizer has words that the text encoder does not embed.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any, device: torch.device) -> None:
        embedded = text_encoder.get_input_embeddings().num_embeddings
        if len(tokenizer) > embedded:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the text encoder embeds {embedded}")
        self.tokenizer, self.text_encoder, self.device = tokenizer, text_encoder, device
        self.length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
        self.words = TokenTable(text_encoder.get_input_embeddings(), len(tokenizer))
        text_encoder.set_input_embeddings(self.words)
        self._tokens: dict[str, list[int]] = {}  # "<name>" -> its ids
        self._contexts: dict[str, Tensor] = {}  # prompt -> (L, D)

    @property
    def encoders(self) -> tuple[Any, ...]:
        """The networks."""
        return (self.text_encoder,)

    @property
    def width(self) -> int:
        """Width of a word vector."""
        return self.words.words.embedding_dim

    def word_vector(self, word: str) -> Tensor:
        """The embedding (width,) of a word: the mean of its pieces.

        Raises
        ------
        ValueError
            where the tokenizer does not know the word.
        """
        ids = self.tokenizer(word, add_special_tokens=False).input_ids
        if not ids or self.tokenizer.unk_token_id in ids:
            raise ValueError(f"the model's tokenizer does not know the word {word!r}")
        return self.words.words.weight[ids].float().mean(0)

    def install_token(self, name: str, vectors: Tensor) -> None:
        """Make ``name`` (written ``<...>``) stand for ``vectors`` (V, width) in prompts.

        It takes V new ids, spelled ``<name> <name>_1 ...`` as diffusers' ``load_textual_inversion`` does, and is
        checked to be read as exactly those. A second call for the same name and V replaces the vectors.

        Raises
        ------
        ValueError
            for another spelling, width or V, or where the tokenizer reads something else.
        """
        if not TOKEN.fullmatch(name):
            raise ValueError(f"token {name!r}: written <name>, without '<', '>' or '|' inside")
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != self.width:
            raise ValueError(f"{name}: vectors of shape {tuple(vectors.shape)}, the model takes (V, {self.width})")
        if name not in self._tokens:
            from tokenizers import AddedToken

            spelled = _spelled(name, len(vectors))
            # not normalised: <Gear> and <gear> are two tokens
            self.tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in spelled])
            start = self.words.first + len(self.words.added)
            self._tokens[name] = list(range(start, start + len(vectors)))
            self.words.added = torch.cat([self.words.added, vectors.new_zeros(vectors.shape).to(self.words.added)])
            try:
                self.tokenise(f"a {name} b")
            except ValueError:
                del self._tokens[name]
                raise
        ids = self._tokens[name]
        if len(ids) != len(vectors):
            raise ValueError(f"{name} has {len(ids)} vectors already, not {len(vectors)}")
        self.set_vectors({name: vectors})

    def set_vectors(self, vectors: Mapping[str, Tensor]) -> None:
        """Replace the vectors (V, width) of installed tokens."""
        added = self.words.added.clone()
        for name, value in vectors.items():
            added[self.rows(name)] = value.to(added)
        self.words.added = added
        self._contexts.clear()

    def rows(self, name: str) -> slice:
        """Where an installed token's vectors lie in ``words.added``."""
        ids = self._tokens[name]
        return slice(ids[0] - self.words.first, ids[-1] + 1 - self.words.first)

    def tokenise(self, prompt: str) -> list[int]:
        """The prompt's ids, padded to the text encoder's length.

        Raises
        ------
        ValueError
            where it names a token that is not installed, one is read as other ids, or it is too long.
        """
        names = TOKEN.findall(prompt)
        missing = sorted({name for name in names if name not in self._tokens})
        if missing:
            installed = ", ".join(self._tokens) or "none"
            raise ValueError(f"{prompt!r}: no learned token {', '.join(missing)}; installed: {installed}")
        text = TOKEN.sub(lambda m: " ".join(_spelled(m[0], len(self._tokens[m[0]]))), prompt)
        ids = self.tokenizer(text, padding="max_length", max_length=self.length).input_ids
        if len(ids) > self.length:
            raise ValueError(f"{prompt!r} is {len(ids)} tokens long, the text encoder takes {self.length}")
        added = [i for i in ids if i >= self.words.first]
        wanted = [i for name in names for i in self._tokens[name]]
        if added != wanted:
            raise ValueError(f"{prompt!r}: the tokenizer read {', '.join(names)} as the ids {added}, not {wanted}")
        return ids

    def context(self, ids: Tensor) -> Tensor:
        """Ids (B, L) -> what the U-Net attends to (B, L, D) float32."""
        return self.text_encoder(ids.to(self.device)).last_hidden_state

    def learning(self, ids: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
        """As ``context``, with ``vectors`` (n, width) in place of those in these rows (n,), differentiable in them."""
        before = self.words.added
        try:
            self.words.added = before.index_copy(0, rows, vectors)
            return self.context(ids)
        finally:
            self.words.added = before

    def as_tensors(self, vectors: Tensor) -> dict[str, Tensor]:
        """A token's vectors (V, width) by the names that diffusers' ``load_textual_inversion`` knows."""
        return {"vectors": vectors}

    def from_tensors(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The vectors (V, width) again.

        Raises
        ------
        ValueError
            where they are another family's.
        """
        if "vectors" not in tensors:
            raise ValueError(
                f"it holds {', '.join(sorted(tensors))} and no vectors: another family of models learned it"
            )
        return tensors["vectors"]

    @torch.no_grad()
    def embed(self, prompt: str, vectors: Mapping[str, Tensor] | None = None) -> Tensor:
        """A prompt's context (L, D) float32; ``vectors`` stand in for installed ones in this call alone.

        One prompt at a time, so that its bytes depend on nothing else; plain calls are cached.
        """
        if vectors is None and prompt in self._contexts:
            return self._contexts[prompt]
        ids = torch.tensor([self.tokenise(prompt)])
        if vectors is None:
            self._contexts[prompt] = self.context(ids)[0]
            return self._contexts[prompt]
        before = self.words.added
        try:
            self.words.added = before.clone()
            for name, value in vectors.items():
                self.words.added[self.rows(name)] = value.to(before)
            return self.context(ids)[0]
        finally:
            self.words.added = before


def _spelled(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{i}" for i in range(1, count))]
