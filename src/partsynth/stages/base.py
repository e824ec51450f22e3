"""base: the embedded Stable Diffusion and reference encoder, trained on the project's own renders.

A frozen stage: its result is committed. Every part is resumable; working files lie in .work/base (git-ignored).
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partsynth.config.generation import Base
from partsynth.core import devices
from partsynth.errors import UserError
from partsynth.rendering import corpus
from partsynth.store.files import read_json, write_bytes_atomic, write_json
from partsynth.store.hashing import fingerprint
from partsynth.store.process import cores
from partsynth.store.state import SavedState

if TYPE_CHECKING:
    from torch import Tensor, nn

HELD_OUT = 500  # the corpus' last images: never trained on, reconstruction is measured on them
PARTS = ("vae", "unet", "reference", "reference_tune")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the training of the base model takes, and where its product goes."""

    params: Base
    out: Path  # folder in diffusers' format
    work: Path = Path(".work/base")
    device: str = "auto"


def run(inputs: Inputs) -> None:
    """Corpus, VAE, latents, text encoder + U-Net, reference encoder, then ``out`` in diffusers' format.

    Raises
    ------
    UserError
        where ``work`` holds the work of other parameters, or there is no CUDA device and one is asked for.
    """
    params = inputs.params
    try:
        device = devices.pick(inputs.device)
    except ValueError as error:
        raise UserError(f"base: {error}") from None
    inputs.work.mkdir(parents=True, exist_ok=True)
    work = _Work(params, inputs.work, device, _claim(params, inputs.work))
    corpus.render_corpus(work.corpus, params.images, params.seed, params.workers or cores())
    _train_vae(work)
    _train_unet(work)
    _train_reference(work)
    _assemble(work, inputs.out)


@dataclass(frozen=True)
class _Work:
    """The working folder of these parameters."""

    params: Base
    folder: Path
    device: str
    identity: str  # of the parameters

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    def weights(self, part: str) -> Path:
        """Of a finished part."""
        return self.folder / f"{part}.safetensors"

    def state(self, part: str) -> SavedState:
        """Of a part that is being trained."""
        return SavedState(self.folder / f"{part}.checkpoint.safetensors", self.identity)

    def images(self, corpus_images: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(corpus_images).to(self.device)

    def vae(self) -> Any:
        from safetensors.torch import load_file

        from partsynth.core.pretraining.networks import build_vae

        vae = build_vae()
        vae.load_state_dict(load_file(self.weights("vae")))
        return vae.to(self.device).eval()

    def logger(self, part: str, steps: int) -> Callable[[int, dict[str, float]], None]:
        """Append each measurement to <part>.jsonl and print it with the time that is left."""
        begun: list[tuple[float, int]] = []

        def log(step: int, values: dict[str, float]) -> None:
            begun.append((time.monotonic(), step))
            first_time, first_step = begun[0]
            pace = (begun[-1][0] - first_time) / max(1, step - first_step)
            with open(self.folder / f"{part}.jsonl", "a") as file:
                file.write(json.dumps({"step": step, "seconds_a_step": round(pace, 5), **values}) + "\n")
            text = ", ".join(f"{k} {v:.4f}" for k, v in values.items())
            left = f"{pace * 1000:.1f} ms per step, {pace * (steps - step) / 60:.1f} min left"
            print(f"{part}: step {step}/{steps}, {text}, {left}", flush=True)

        return log

    def last_logged(self, part: str) -> dict[str, Any]:
        path = self.folder / f"{part}.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return json.loads(lines[-1]) if lines else {}


def _claim(params: Base, folder: Path) -> str:
    """Stamp the working folder; states and parts of other parameters must not be taken up by these."""
    stamp, identity = folder / "params.json", fingerprint(params.model_dump(exclude={"workers"}))
    if stamp.is_file() and read_json(stamp)["fingerprint"] != identity:
        raise UserError(
            f"{folder} holds the work of other base parameters: move it away, or restore them in params.yaml"
        )
    write_json(stamp, {"fingerprint": identity, "params": params})
    return identity


def _write_weights(path: Path, module: nn.Module, *, half: bool = False) -> None:
    from safetensors.torch import save

    state = {k: (v.half() if half else v).contiguous().cpu() for k, v in module.state_dict().items()}
    write_bytes_atomic(path, save(state))


def _train_vae(work: _Work) -> None:
    from partsynth.core.pretraining.vae import train_vae

    if work.weights("vae").is_file():
        return
    params = work.params
    vae = train_vae(
        work.images(corpus.load_corpus(work.corpus, params.vae_images)["images"]),
        steps=params.vae_steps,
        batch_size=params.vae_batch_size,
        seed=params.seed,
        state=work.state("vae"),
        log=work.logger("vae", params.vae_steps),
    )
    _write_weights(work.weights("vae"), vae)


def _train_unet(work: _Work) -> None:
    from partsynth.core.pretraining.networks import build_tokenizer, tokenize
    from partsynth.core.pretraining.unet import train_unet
    from partsynth.core.pretraining.vae import mean_psnr, scaled_latents

    if work.weights("unet").is_file():
        return
    params, vae, data = work.params, work.vae(), corpus.load_corpus(work.corpus)
    keep = len(data["images"]) - HELD_OUT
    psnr = mean_psnr(vae, work.images(data["images"][keep:]))
    work.logger("vae", params.vae_steps)(params.vae_steps, {"held_out_psnr": psnr})
    captions = data["captions"][:keep]  # (N, K)
    texts = [str(c) for c in captions.flatten()]
    tokenizer = build_tokenizer(texts, work.folder / "tokenizer")
    ids = tokenize(tokenizer, texts).view(*captions.shape, -1)  # (N, K, T)
    latents, factor = scaled_latents(vae, work.images(data["images"][:keep]))
    del vae
    unet, text_encoder = train_unet(
        latents,
        ids.to(work.device),
        tokenizer,
        steps=params.unet_steps,
        batch_size=params.batch_size,
        caption_dropout=params.caption_dropout,
        ema=params.ema,
        seed=params.seed,
        state=work.state("unet"),
        log=work.logger("unet", params.unet_steps),
    )
    write_json(work.folder / "scaling.json", {"scaling_factor": factor})
    _write_weights(work.weights("text_encoder"), text_encoder, half=True)
    _write_weights(work.weights("unet"), unet, half=True)


def _train_reference(work: _Work) -> None:
    import torch

    from partsynth.core.drift import reference
    from partsynth.core.pretraining.reference import train_reference, tune_reference

    done, start = work.folder / "reference_encoder", work.folder / "reference_start"
    if (done / "config.json").is_file():
        return
    params, data = work.params, corpus.load_corpus(work.corpus)
    keep = len(data["images"]) - HELD_OUT
    images = work.images(data["images"][:keep])
    variants, families = (
        torch.from_numpy(np.unique(data[key][:keep], return_inverse=True)[1].astype(np.int64)).to(work.device)
        for key in ("variants", "families")
    )
    if not (start / "config.json").is_file():
        net = train_reference(
            images,
            variants,
            steps=params.reference_steps,
            seed=params.seed,
            state=work.state("reference"),
            log=work.logger("reference", params.reference_steps),
        )
        reference.save(net, start, params.size)
    few = params.reference_tune_images
    tuned = tune_reference(
        cast(reference.ReferenceNet, reference.load(str(start), device=work.device).net),
        images[:few],
        _round_trips(work, images[:few]),
        variants[:few],
        families[:few],
        steps=params.reference_tune_steps,
        seed=params.seed,
        state=work.state("reference_tune"),
        log=work.logger("reference_tune", params.reference_tune_steps),
    )
    reference.save(tuned, done, params.size)


def _round_trips(work: _Work, images: Tensor) -> Tensor:
    """uint8 images (N, S, S, 3) after the VAE; kept in the working folder."""
    import torch
    from rich.progress import track

    from partsynth.core.pretraining.vae import round_trip

    path = work.folder / "round_trips.npy"
    if not path.is_file():
        vae, made = work.vae(), []
        for part in track(images.split(100), "base: images through the VAE"):
            made.append(((round_trip(vae, part) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu())
        buffer = io.BytesIO()
        np.save(buffer, torch.cat(made).numpy())
        write_bytes_atomic(path, buffer.getvalue())
    return work.images(np.load(path, allow_pickle=False))


def _assemble(work: _Work, out: Path) -> None:
    """Write ``out`` as a pipeline folder (fp16 safetensors under the default names), the reference encoder beside."""
    from safetensors.torch import load_file
    from transformers import CLIPTokenizer

    from partsynth.core.pretraining.networks import build_text_encoder, build_unet, save_pipeline

    tokenizer = CLIPTokenizer.from_pretrained(work.folder / "tokenizer")
    text_encoder, unet, vae = build_text_encoder(tokenizer), build_unet(), work.vae().cpu()
    text_encoder.load_state_dict(load_file(work.weights("text_encoder")))
    unet.load_state_dict(load_file(work.weights("unet")))
    vae.register_to_config(scaling_factor=read_json(work.folder / "scaling.json")["scaling_factor"])
    save_pipeline(out, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet)
    shutil.copytree(work.folder / "reference_encoder", out / "reference_encoder", dirs_exist_ok=True)
    write_json(
        out / "training.json",
        {
            "params": work.params.model_dump(exclude={"workers"}),
            "corpus": read_json(work.corpus / corpus.SUMMARY),
            "log": {part: work.last_logged(part) for part in PARTS},
        },
    )
    print(f"{out}: {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")
