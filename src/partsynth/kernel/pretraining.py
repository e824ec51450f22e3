"""Training of the embedded base model: VAE, text encoder with U-Net, reference encoder. Tensors in, modules out.

The model is Stable Diffusion's (Rombach et al. 2022, arXiv 2112.10752) in diffusers' and transformers' own classes, small:
64 px pictures, latents of 4 x 16 x 16, v-prediction (Salimans and Ho 2022, arXiv 2202.00512) with uniform weights, since
form and state words live at middle and high noise, where v weighs more than noise prediction does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from partsynth.kernel import views
from partsynth.kernel.losses import supcon_loss
from partsynth.kernel.reference import ReferenceNet

TEXT_WIDTH = 192
TEXT_LENGTH = 48  # tokens a prompt, start and end included
Log = Callable[[int, dict[str, float]], None]


# --- models -------------------------------------------------------------------------------------------------------


def build_vae() -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=64,
    )


def build_unet() -> nn.Module:
    """Cross-attention at 8 x 8 both ways and in the middle: at 16 x 16 it costs most on a CPU, at 4 x 4 it adds weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )


def build_tokenizer(captions: Sequence[str], folder: Path, vocabulary: int = 900) -> Any:
    """A CLIP-style BPE tokenizer (end-of-word suffix ``</w>``) trained on the captions, saved to and loaded from ``folder``."""
    import json

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    bpe = Tokenizer(models.BPE(unk_token=special[1], end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")  # so that a word unseen in the captions still splits
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=letters,
    )
    bpe.train_from_iterator(sorted(set(captions)) + letters, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    vocab_file, merges_file = bpe.model.save(str(folder))
    vocab = json.loads(Path(vocab_file).read_text())
    lines = [line for line in Path(merges_file).read_text().splitlines() if line and not line.startswith("#version")]
    tokenizer = CLIPTokenizer(
        vocab=vocab, merges=[tuple(line.split(" ")) for line in lines], pad_token=special[1], model_max_length=TEXT_LENGTH
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text_encoder(tokenizer: Any) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH, num_hidden_layers=3, num_attention_heads=6, max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Token ids (N, TEXT_LENGTH), padded and cut."""
    return tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=TEXT_LENGTH, return_tensors="pt"
    ).input_ids


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule (scaled linear, 1,000 steps) as DDIM with v-prediction."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
    )


# --- a resumable loop ---------------------------------------------------------------------------------------------


class Loop:
    """AdamW, warm-up and cosine decay, EMA, bf16 autocast, and a checkpoint that a killed run goes on from.

    The checkpoint is one safetensors file: weights, averages and AdamW's moments by name. Random choices of step ``i``
    come from a generator seeded by (seed, i), so a resumed run draws what the unbroken one would have drawn.
    """

    def __init__(
        self, modules: dict[str, nn.Module], *, steps: int, learning_rate: float, device: str, seed: int,
        checkpoint: Path | None, ema: float | None = None, warmup: int = 200, weight_decay: float = 0.01, every: int = 1000,
    ) -> None:
        self.steps, self.learning_rate, self.warmup, self.every = steps, learning_rate, warmup, every
        self.device, self.seed, self.checkpoint, self.ema_decay = device, seed, checkpoint, ema
        self.names, self.parameters = [], []
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

    def run(self, loss_of: Callable[[torch.Generator], Tensor], log: Log, log_every: int = 200) -> None:
        """Take the steps that are left; ``loss_of`` draws its batch from the step's own generator."""
        total, count = torch.zeros((), device=self.device), 0
        for step in range(self.start, self.steps):
            generator = torch.Generator(device=self.device).manual_seed(self.seed * 1_000_003 + step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * self._schedule(step)
            with torch.autocast(self.device, torch.bfloat16):
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
            if self.checkpoint is not None and ((step + 1) % self.every == 0 or step + 1 == self.steps):
                self._save(step + 1)
        if self.averages:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self.averages, strict=True):
                    parameter.copy_(average)

    def _schedule(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))

    def _save(self, step: int) -> None:
        tensors = {}
        for i, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
            tensors[f"weight.{name}"] = parameter.detach().contiguous()
            state = self.optimizer.state[parameter]
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}.{name}"] = state[key].contiguous()
            if self.averages:
                tensors[f"average.{name}"] = self.averages[i].contiguous()
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        save_file({k: v.cpu() for k, v in tensors.items()}, temporary, metadata={"step": str(step)})
        temporary.replace(self.checkpoint)

    def _resume(self) -> int:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(self.checkpoint, "pt") as file:
            step = int(file.metadata()["step"])
        tensors = load_file(self.checkpoint, device=self.device)
        with torch.no_grad():
            for i, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
                parameter.copy_(tensors[f"weight.{name}"])
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=self.device if self.device == "cuda" else "cpu"),
                    **{key: tensors[f"{key}.{name}"].clone() for key in ("exp_avg", "exp_avg_sq")},
                }
                if self.averages:
                    self.averages[i].copy_(tensors[f"average.{name}"])
        return step


def _draw(images: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` pictures (count, 3, S, S) in [-1, 1], half of them mirrored, and their indices."""
    index = torch.randint(len(images), (count,), generator=generator, device=images.device)
    batch = _pictures(images, index)
    mirrored = torch.rand(count, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch), index


# --- VAE ----------------------------------------------------------------------------------------------------------


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE, and L1 on chroma (x 3), on 4 x 4 means (x 2) and on edges.

    PSNR hides colour: most of a picture is grey metal, and at 31 dB rust had become grey. Chroma = picture less its
    channel mean.
    """
    difference = made - wanted
    chroma = difference - difference.mean(1, keepdim=True)
    edges = (difference[..., 1:] - difference[..., :-1]).abs().mean() + (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return (
        difference.abs().mean() + 2 * difference.square().mean() + 3 * chroma.abs().mean()
        + 2 * F.avg_pool2d(difference, 4).abs().mean() + 0.5 * edges
    )


def train_vae(images: Tensor, *, steps: int, batch_size: int, seed: int, checkpoint: Path | None, log: Log) -> nn.Module:
    """Train on uint8 pictures (N, S, S, 3) already on the training device; returns the EMA model in eval mode."""
    device = images.device.type
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    loop = Loop(
        {"vae": vae}, steps=steps, learning_rate=1e-3, device=device, seed=seed, checkpoint=checkpoint, ema=0.999,
        weight_decay=0.0,
    )
    fast = torch.compile(_VaeForward(vae)) if device == "cuda" else _VaeForward(vae)

    def loss_of(generator: torch.Generator) -> Tensor:
        batch, _ = _draw(images, batch_size, generator)
        noise = torch.randn(batch_size, 4, batch.shape[2] // 4, batch.shape[3] // 4, generator=generator, device=batch.device)
        made, kl = fast(batch, noise)
        return reconstruction_loss(made.float(), batch) + 1e-4 * kl

    loop.run(loss_of, log)
    return vae.eval()


class _VaeForward(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, batch: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        moments = self.vae.quant_conv(self.vae.encoder(batch)).float()
        mean, log_variance = moments.chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        latent = mean + (0.5 * log_variance).exp() * noise
        return self.vae.decoder(self.vae.post_quant_conv(latent)), kl


@torch.inference_mode()
def encode_latents(vae: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Posterior means (N, 4, S/4, S/4) float32, unscaled, of uint8 pictures (N, S, S, 3)."""
    means = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].permute(0, 3, 1, 2).float() / 127.5 - 1
        means.append(vae.encode(batch).latent_dist.mean.float())
    return torch.cat(means)


# --- text encoder and U-Net ---------------------------------------------------------------------------------------


def train_unet(
    latents: Tensor, captions: Tensor, tokenizer: Any, *, steps: int, batch_size: int, caption_dropout: float, ema: float,
    seed: int, checkpoint: Path | None, log: Log,
) -> tuple[nn.Module, nn.Module]:
    """Train both on scaled latents (V, N, 4, h, w), V = the picture and its mirror image, and token ids (N, K, T).

    ``captions[i]`` holds K alternative captions of picture i. Returns the EMA (unet, text_encoder) in eval mode.
    """
    device = latents.device.type
    torch.manual_seed(seed)
    unet = build_unet().to(memory_format=torch.channels_last)
    text_encoder = build_text_encoder(tokenizer)
    loop = Loop(
        {"unet": unet, "text_encoder": text_encoder}, steps=steps, learning_rate=6e-4, device=device, seed=seed,
        checkpoint=checkpoint, ema=ema, warmup=500, every=2000,
    )
    alphas = build_scheduler().alphas_cumprod.to(latents.device)
    empty = tokenize(tokenizer, [""]).to(latents.device)[0]
    fast = torch.compile(unet) if device == "cuda" else unet

    def loss_of(generator: torch.Generator) -> Tensor:
        draw = {"generator": generator, "device": latents.device}
        index = torch.randint(latents.shape[1], (batch_size,), **draw)
        clean = latents[torch.randint(len(latents), (batch_size,), **draw), index]  # (B, 4, h, w)
        ids = captions[index, torch.randint(captions.shape[1], (batch_size,), **draw)]  # (B, T)
        dropped = torch.rand(batch_size, **draw) < caption_dropout
        ids = torch.where(dropped[:, None], empty, ids)
        t = torch.randint(len(alphas), (batch_size,), **draw)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, **draw)
        context = text_encoder(ids).last_hidden_state  # (B, T, TEXT_WIDTH)
        made = fast(a * clean + s * noise, t, context).sample
        return F.mse_loss(made.float(), a * noise - s * clean)

    loop.run(loss_of, log)
    return unet.eval(), text_encoder.eval()


# --- reference encoder --------------------------------------------------------------------------------------------


def train_reference(
    images: Tensor, variants: Tensor, *, steps: int, seed: int, checkpoint: Path | None, log: Log,
    variants_a_step: int = 48, pictures_a_variant: int = 4,
) -> ReferenceNet:
    """SupCon over feature variants (labels (N,) int64); spoilt copies (blur, noise, inverted) join as negatives only.

    Without the spoilt copies nothing would make the encoder tell a picture of a part from a broken picture of it.
    """
    torch.manual_seed(seed)
    net = ReferenceNet().to(memory_format=torch.channels_last)
    device = images.device.type
    loop = Loop({"net": net}, steps=steps, learning_rate=2e-3, device=device, seed=seed, checkpoint=checkpoint, ema=0.999)
    sampler = _Variants(variants)

    def loss_of(generator: torch.Generator) -> Tensor:
        index = sampler.draw(variants_a_step, pictures_a_variant, generator)
        batch = _gentle_views(_pictures(images, index), generator)
        return _spoilt_supcon(net, batch, batch[::pictures_a_variant], variants[index], pictures_a_variant, generator)

    loop.run(loss_of, log)
    return net.eval()


def tune_reference(
    net: ReferenceNet, images: Tensor, round_trips: Tensor, variants: Tensor, families: Tensor, *, steps: int, seed: int,
    checkpoint: Path | None, log: Log, variants_a_step: int = 32, pictures_a_variant: int = 4,
) -> ReferenceNet:  # fmt: skip
    """Go on with pictures as edits and training show them: half through the VAE, half in training's views.

    ``round_trips`` are ``images`` (N, S, S, 3) after the VAE, ``families`` (N,) int64. Every other step draws its
    variants from as few families as hold enough, so that siblings are told apart. Without this a real part in grey or
    through the VAE lay further from its class than another part does, and drift said little.
    """
    net.train().requires_grad_(True)
    loop = Loop(
        {"net": net}, steps=steps, learning_rate=1e-3, device=images.device.type, seed=seed, checkpoint=checkpoint,
        ema=0.99, warmup=50, every=100,
    )  # fmt: skip
    sampler = _Variants(variants, families)

    def loss_of(generator: torch.Generator) -> Tensor:
        index = sampler.draw(variants_a_step, pictures_a_variant, generator)
        n, draw = len(index), {"generator": generator, "device": images.device}
        chance = torch.rand(2, n, 1, 1, 1, **draw)
        batch = torch.where(chance[0] < 0.5, _pictures(images, index), _pictures(round_trips, index))
        gentle = _gentle_views(batch, generator)
        wide = views.augment((batch + 1) / 2, torch.rand(n, views.DRAWS, **draw)) * 2 - 1
        seen = torch.where(chance[1] < 0.5, gentle, wide)
        return _spoilt_supcon(net, seen, gentle[::pictures_a_variant], variants[index], pictures_a_variant, generator)

    loop.run(loss_of, log, log_every=20)
    return net.eval()


class _Variants:
    """Draws pictures by variant (labels (N,) int64); variants of one picture are left out."""

    def __init__(self, variants: Tensor, families: Tensor | None = None) -> None:
        self.order = torch.argsort(variants, stable=True)
        self.sizes = torch.bincount(variants)
        self.starts = torch.cumsum(self.sizes, 0) - self.sizes
        self.usable = torch.nonzero(self.sizes >= 2)[:, 0]
        self.families = None if families is None else families[self.order[self.starts[self.usable]]]

    def draw(self, count: int, each: int, generator: torch.Generator) -> Tensor:
        """Indices of ``each`` pictures of up to ``count`` variants, a variant's side by side."""
        draw = {"generator": generator, "device": self.order.device}
        rank = torch.rand(len(self.usable), **draw)
        if self.families is not None:
            kinds = int(self.families.max()) + 1
            siblings = (torch.rand((), **draw) < 0.5).float()
            rank = rank + siblings * torch.randperm(kinds, **draw)[self.families]  # family after family
        chosen = self.usable[torch.argsort(rank)[:count]]
        offsets = (torch.rand(len(chosen), each, **draw) * self.sizes[chosen, None]).long()
        return self.order[self.starts[chosen, None] + offsets].flatten()


def _pictures(images: Tensor, index: Tensor) -> Tensor:
    """uint8 (N, S, S, 3) -> (len(index), 3, S, S) in [-1, 1]."""
    return images[index].permute(0, 3, 1, 2).float() / 127.5 - 1


def _spoilt_supcon(
    net: ReferenceNet, batch: Tensor, whole: Tensor, labels: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    """SupCon of the batch, with spoilt copies of ``whole`` (every ``each``-th picture) as negatives of their class."""
    features = net(torch.cat([batch, _spoil(whole, generator)]).contiguous(memory_format=torch.channels_last))
    labels = torch.cat([labels, labels[::each]])
    negative = torch.arange(len(labels), device=labels.device) >= len(batch)
    return supcon_loss(features[:, None], labels, negative, temperature=0.1)


def _gentle_views(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored, zoomed by up to 12 %, shifted by up to 4 %, brightness and contrast by up to 10 %."""
    n, device = len(batch), batch.device
    uniform = torch.rand(6, n, generator=generator, device=device) * 2 - 1
    flip = torch.where(uniform[0] < 0, -1.0, 1.0)
    zoom = 0.94 + 0.06 * uniform[1]
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = flip * zoom, zoom
    theta[:, 0, 2], theta[:, 1, 2] = 0.08 * uniform[2], 0.08 * uniform[3]
    moved = F.grid_sample(
        batch, F.affine_grid(theta, batch.shape, align_corners=False), padding_mode="border", align_corners=False
    )
    gain, shift = 1 + 0.1 * uniform[4].view(-1, 1, 1, 1), 0.1 * uniform[5].view(-1, 1, 1, 1)
    return (moved * gain + shift).clamp(-1, 1)


def _spoil(batch: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the pictures blurred, a third noisy, a third with exposure upside down."""
    kind = torch.arange(len(batch), device=batch.device) % 3
    kind = kind[torch.randperm(len(batch), generator=generator, device=batch.device)].view(-1, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(batch, 4), scale_factor=4, mode="bilinear")
    noisy = (batch + 0.5 * torch.randn(batch.shape, generator=generator, device=batch.device)).clamp(-1, 1)
    return torch.where(kind == 0, blurred, torch.where(kind == 1, noisy, -batch))


def save_pipeline(out: Path, *, vae: nn.Module, text_encoder: nn.Module, tokenizer: Any, unet: nn.Module) -> None:
    """Write a Stable Diffusion folder in diffusers' format, fp16 safetensors under the default file names."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae.half(), text_encoder=text_encoder.half(), tokenizer=tokenizer, unet=unet.half(),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
