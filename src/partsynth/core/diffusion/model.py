"""Stable Diffusion 1.x/2.x as four parts (VAE, U-Net, text encoder, tokenizer) and the few things done with them.

Papers: latent diffusion (arXiv 2112.10752), DDIM (2010.02502), SDEdit (2108.01073), classifier-free guidance
(2207.12598), v-prediction (2202.00512).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partsynth.core.diffusion.images import padded

PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
PREDICTIONS = ("epsilon", "v_prediction")
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


class StableDiffusion:
    """A loaded model. The U-Net computes in ``dtype``; VAE and text encoder in float32: they are cheap and touchy."""

    def __init__(self, vae: Any, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any, dtype: torch.dtype):
        from diffusers import DDIMScheduler

        if len(tokenizer) > text_encoder.get_input_embeddings().num_embeddings:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} tokens, the text encoder embeds "
                f"{text_encoder.get_input_embeddings().num_embeddings}"
            )
        if unet.config.in_channels != vae.config.latent_channels:
            raise ValueError(
                f"the U-Net takes {unet.config.in_channels} channels, the VAE makes {vae.config.latent_channels}: "
                "inpainting and depth models are not supported"
            )
        ddim = DDIMScheduler.from_config(scheduler.config)
        self.prediction = ddim.config.prediction_type
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction type {self.prediction!r}; allowed: {', '.join(PREDICTIONS)}")
        self.alphas = ddim.alphas_cumprod.double().tolist()  # alpha bar of each of the T timesteps
        self.vae, self.unet, self.text_encoder, self.tokenizer = vae, unet, text_encoder, tokenizer
        self.device, self.dtype = unet.device, dtype
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels a latent
        self.length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
        # channels last is the faster layout on a GPU, the slower one on the CPUs tried
        self.layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        for part in (vae, unet, text_encoder):
            part.eval().requires_grad_(False)
        for part in (vae, unet):
            part.to(memory_format=self.layout)
        self.words = TokenTable(text_encoder.get_input_embeddings(), len(tokenizer))
        text_encoder.set_input_embeddings(self.words)
        self._tokens: dict[str, list[int]] = {}  # "<name>" -> its ids
        self._contexts: dict[str, Tensor] = {}

    # --- pictures and latents -------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> scaled latents (N, C, H / f, W / f) float32: the posterior's mean, no noise."""
        scale = self.vae.config.scaling_factor
        return self._by_chunks(images, images.shape[2:], lambda x: self.vae.encode(x).latent_dist.mean * scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (N, C, h, w) -> (N, 3, H, W) in [-1, 1] (clipped) float32."""
        sides = [side * self.factor for side in latents.shape[2:]]
        scale = self.vae.config.scaling_factor
        return self._by_chunks(latents, sides, lambda z: self.vae.decode(z / scale).sample.clamp(-1, 1))

    def _by_chunks(self, x: Tensor, sides: Sequence[int], work: Any) -> Tensor:
        # one shape for a picture size, so that a picture's bytes do not depend on how many came with it
        size = max(1, min(16, 2**21 // math.prod(sides)))
        done = []
        for indices, count in padded(len(x), size):
            chunk = x[indices].to(self.device, torch.float32, memory_format=self.layout)
            done.append(work(chunk)[:count].contiguous())
        return torch.cat(done)

    # --- words ----------------------------------------------------------------------------------------------------

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

    # --- the diffusion --------------------------------------------------------------------------------------------

    def timesteps(self, strength: float, steps: int) -> list[int]:
        """Timesteps visited, from the noisiest down: max(1, round(strength x steps)) of them, evenly spaced.

        The first is exactly ``strength`` of the schedule's T (to 1 / T), whatever ``steps`` is; in diffusers'
        img2img the strength is rounded down to a multiple of 1 / steps.
        """
        total = len(self.alphas)
        count = max(1, round(strength * steps))
        return [max(0, round(strength * total * (count - i) / count) - 1) for i in range(count)]

    def split(self, output: Tensor, noisy: Tensor, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
        """The U-Net's output at ``alpha`` as (clean latents, noise). arXiv 2010.02502 eq. 12; 2202.00512 sec. 4."""
        a, b = _roots(alpha)
        if self.prediction == "epsilon":
            return (noisy - b * output) / a, output
        return a * noisy - b * output, a * output + b * noisy

    @torch.no_grad()
    def sdedit(
        self,
        latents: Tensor,
        context: Tensor,
        seeds: Sequence[int],
        strength: float | Sequence[float],
        guidance: float,
        steps: int,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Noise latents to ``strength`` of the schedule and denoise them under a prompt by DDIM (eta = 0).

        Parameters
        ----------
        latents
            (B, C, h, w), scaled. A picture's bytes depend on B: keep it fixed (see ``padded``).
        context
            (B, L, D), from ``embed``.
        seeds
            B seeds; each picture's noise has its own CPU generator.
        strength
            In [0, 1]. 0 returns the latents as they are; 1 starts from pure noise, with nothing of the source.
            Or one a picture: the batch takes as many steps as its longest edit, and what is done early waits. (On the
            CPU that gives the same bytes as one strength for all; a GPU divides by a tensor otherwise than by a number.)
        guidance
            w of eps_uncond + w (eps - eps_uncond); 1 = no guidance, and half the time.
        mask
            (B, 1, h, w) in {0, 1}: where 0, each step puts the source back, noised as far as the step.

        Raises
        ------
        FloatingPointError
            where a latent is not finite, naming the seeds.
        """
        latents = latents.to(self.device, torch.float32)
        each = isinstance(strength, Sequence)
        strengths = list(strength) if isinstance(strength, Sequence) else [strength]
        plans = [self.timesteps(s, steps) if s else [] for s in strengths]

        def column(values: list[float]) -> float | Tensor:
            """The batch's number, or one a picture (B, 1, 1, 1)."""
            return (
                torch.tensor(values, dtype=torch.float64, device=self.device).view(-1, 1, 1, 1) if each else values[0]
            )

        noise = torch.stack([self.noise(seed, latents.shape[1:]) for seed in seeds])
        if guidance != 1:
            context = torch.cat([self.embed("").expand_as(context), context])
        context = context.to(self.dtype)
        starts = [0.0 if s == 1 else self.alphas[p[0]] if p else 1.0 for s, p in zip(strengths, plans, strict=True)]
        x = self.mix(latents, noise, column(starts))
        for n in range(max(map(len, plans))):
            times = [plan[min(n, len(plan) - 1)] if plan else 0 for plan in plans]
            alpha = column([self.alphas[t] for t in times])
            later = column([self.alphas[plan[n + 1]] if n + 1 < len(plan) else 1.0 for plan in plans])
            if mask is not None:
                x = torch.where(mask.bool(), x, self.mix(latents, noise, alpha))
            both = x if guidance == 1 else torch.cat([x, x])
            out = self.predict(both, torch.tensor(times).repeat(len(both) // len(times)), context)
            if guidance != 1:
                without, out = out.chunk(2)
                out = without + guidance * (out - without)
            after = self.mix(*self.split(out, x, alpha), later)
            running = torch.tensor([n < len(plan) for plan in plans], device=self.device).view(-1, 1, 1, 1)
            x = torch.where(running, after, x) if each else after
        if mask is not None:
            x = torch.where(mask.bool(), x, latents)
        bad = [seed for seed, fine in zip(seeds, x.isfinite().flatten(1).all(1).tolist(), strict=True) if not fine]
        if bad:
            raise FloatingPointError(f"not finite after denoising in {self.dtype}: seeds {bad}")
        return x

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], guidance: float, steps: int, size: int, batch_size: int = 32
    ) -> Tensor:
        """Pictures (N, 3, size, size) in [-1, 1] from the prompts alone, out of pure noise."""
        side = size // self.factor
        done = []
        for indices, count in padded(len(prompts), batch_size):
            empty = torch.zeros(batch_size, self.unet.config.in_channels, side, side)
            context = torch.stack([self.embed(prompts[i]) for i in indices])
            done.append(self.sdedit(empty, context, [seeds[i] for i in indices], 1.0, guidance, steps)[:count])
        return self.decode(torch.cat(done))

    def noise(self, seed: int, shape: Sequence[int]) -> Tensor:
        """Standard normal noise of one picture, drawn on the CPU: the same on every device."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @staticmethod
    def mix(clean: Tensor, noise: Tensor, alpha: float | Tensor) -> Tensor:
        """sqrt(alpha) x clean + sqrt(1 - alpha) x noise."""
        a, b = _roots(alpha)
        return a * clean + b * noise

    def predict(self, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The U-Net's output (B, C, h, w) float32 for noisy latents at timesteps (B,) under contexts (B, L, D)."""
        x = noisy.to(self.dtype, memory_format=self.layout)
        return self.unet(x, t.to(self.device), encoder_hidden_states=context.to(self.dtype)).sample.float()


def _roots(alpha: float | Tensor) -> tuple[Any, Any]:
    """sqrt(alpha), sqrt(1 - alpha), of a number or of a float64 tensor (then float32)."""
    if isinstance(alpha, Tensor):
        return alpha.sqrt().float(), (1 - alpha).sqrt().float()
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def _spelled(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{i}" for i in range(1, count))]
