"""The parts of `gpu.py`, each a process: generation in the shape of Stable Diffusion 1.5, and equal bytes."""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repository import ROOT

STEPS, STRENGTH, GUIDANCE = 50, 0.5, 7.5  # set near_ood of presets/sd15-gpu.yaml: 25 forwards, each of 2 images
BATCHES = (1, 8, 16)
TOGETHER = 16  # images a call of diffusers' batched pipeline, and of the compiled U-Net
READY, GO = "ready", "go"  # files: the compiled U-Net waits until nothing else runs
# a run of stage generate: how many processes, on what, in what
RUNS = {
    "one": (1, "cuda", "float32"),
    "again": (1, "cuda", "float32"),
    "two": (2, "cuda", "float32"),
    "three": (3, "cuda", "float32"),
    "one-bf16": (1, "cuda", "bfloat16"),
    "two-bf16": (2, "cuda", "bfloat16"),
    "cpu": (1, "cpu", "float32"),
}
SMOKE = ("one", "two", "one-bf16")  # of them
PAIRS = (
    ("one", "again"),
    ("one", "two"),
    ("one", "three"),
    ("one-bf16", "two-bf16"),
    ("one", "cpu"),
    ("one", "one-bf16"),
)
# name -> strength, guidance, variants, restore: the demo's
SETS = {"id": (0.25, 5.0, 4, 1.0), "near_ood": (0.5, 4.0, 2, 0.0)}


class Told:
    """Figures of a part, written after each: what was measured before a fault is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        self.figures[name] = value
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.figures, indent=1))
        draft.replace(self.path)

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """The work's result, told; a fault is told in its place."""
        try:
            found = work()
        except Exception as error:  # the next figures do not depend on it
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self.add(name, {"fault": f"{type(error).__name__}: {error}"[:500]})
            return None
        self.add(name, found)
        return found


# --- Stable Diffusion 1.5's shape -------------------------------------------------------------------------------------


def _networks(smoke: bool, device: str) -> dict[str, Any]:
    """Networks of SD 1.5's configuration with random weights, made where they run; ``smoke``: tiny ones."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast  # type: ignore[attr-defined]

    wide = (32, 64, 64, 64) if smoke else (320, 640, 1280, 1280)
    width = 64 if smoke else 768
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=64,
            block_out_channels=wide,
            layers_per_block=1 if smoke else 2,
            cross_attention_dim=width,
            attention_head_dim=8,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 32) if smoke else (128, 256, 512, 512),
            layers_per_block=1 if smoke else 2,
            latent_channels=4,
            sample_size=512,
            scaling_factor=0.18215,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=2 if smoke else 12,
                num_attention_heads=4 if smoke else 12,
                max_position_embeddings=77,
                projection_dim=width,
            )
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    tokenizer = CLIPTokenizerFast.from_pretrained(ROOT / "models/base/tokenizer", model_max_length=77)
    networks = {"vae": vae, "unet": unet, "text_encoder": text}
    for part in networks.values():
        part.eval().requires_grad_(False)  # type: ignore[attr-defined]
    return networks | {"tokenizer": tokenizer, "scheduler": scheduler}


def _model(networks: dict[str, Any], dtype: str) -> Any:
    """partsynth's model of copies of these networks: the U-Net in ``dtype``, the others in float32."""
    import torch

    from partsynth.core.diffusion.model import StableDiffusion
    from partsynth.core.diffusion.words import PromptEncoder

    parts = {name: copy.deepcopy(networks[name]) for name in ("vae", "unet", "text_encoder")}
    number = getattr(torch, dtype)
    parts["unet"].to(number)
    prompts = PromptEncoder(copy.deepcopy(networks["tokenizer"]), parts["text_encoder"], parts["unet"].device)
    return StableDiffusion(parts["vae"], parts["unet"], prompts, networks["scheduler"], number)


def _pipeline(networks: dict[str, Any], dtype: str) -> Any:
    """diffusers' pipeline of copies of them, all in ``dtype``."""
    import torch
    from diffusers import StableDiffusionImg2ImgPipeline

    parts = {name: copy.deepcopy(part) for name, part in networks.items()}
    pipeline = StableDiffusionImg2ImgPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    return pipeline.to(parts["unet"].device, getattr(torch, dtype))  # type: ignore[attr-defined]


def _edit(model: Any, images: list[Any], size: int, batch_size: int, steps: int) -> list[Any]:
    """Images edited as stage generate goes about it: PIL images in, PIL images out."""
    import torch

    from partsynth.core.diffusion.images import padded, to_images, to_tensor

    made: list[Any] = []
    for indices, count in padded(len(images), batch_size):
        latents = model.encode(to_tensor([images[i] for i in indices], size))  # (B, 4, h, w)
        context = torch.stack([model.prompts.embed(_prompt(i)) for i in indices])  # (B, L, D)
        edited = model.sdedit(latents, context, indices, STRENGTH, GUIDANCE, steps)
        made += to_images(model.decode(edited[:count]).cpu())
    return made


def _edit_diffusers(pipeline: Any, images: list[Any], together: int, steps: int) -> list[Any]:
    import torch

    made: list[Any] = []
    for start in range(0, len(images), together):
        part = range(start, min(start + together, len(images)))
        told = pipeline(
            [_prompt(i) for i in part],
            image=[images[i] for i in part],
            strength=STRENGTH,
            guidance_scale=GUIDANCE,
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(i) for i in part],
        )
        made += told.images
    return made


def _prompt(index: int) -> str:
    return f"a photo of a {('used', 'rusty', 'dirty', 'broken')[index % 4]} part"


def _images(count: int, size: int) -> list[Any]:
    import numpy as np
    from peer_inputs import picture

    rng = np.random.default_rng(0)
    few = [picture(rng, size, size) for _ in range(4)]
    return [few[i % 4] for i in range(count)]


class _Device:
    """The clock and the memory of where it runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def wait(self) -> None:
        if self.name == "cuda":
            import torch

            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def mib(self, work: Callable[[], Any]) -> float:
        """The most that tensors held, beyond what there was; 0 where it is no GPU."""
        if self.name != "cuda":
            work()
            return 0.0
        import torch

        self.wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def _weights(*modules: Any) -> float:
    """MiB."""
    return sum(p.numel() * p.element_size() for m in modules for p in m.parameters()) / 2**20


def _spread(count: int, seconds: list[float]) -> dict[str, Any]:
    rates = [count / s for s in seconds]
    told = {"images_per_s": statistics.median(rates), "spread": [min(rates), max(rates)], "images": count}
    return told | {"rounds": len(rates)}


def _machine(device: _Device) -> dict[str, Any]:
    import diffusers
    import torch
    import transformers

    told = {"cpus": len(os.sched_getaffinity(0)), "python": platform.python_version(), "torch": torch.__version__}
    told |= {"diffusers": diffusers.__version__, "transformers": transformers.__version__}
    if device.name == "cuda":
        found = torch.cuda.get_device_properties(0)
        told |= {"gpu": found.name, "gpu_gib": round(found.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return told


def peak(device: _Device, smoke: bool) -> dict[str, float]:
    """Dense bf16 matrix products of 8192 cubed, random numbers: TFLOP/s, the median of ten."""
    import torch

    side = 256 if smoke else 8192
    a, b = (torch.randn(side, side, device=device.name, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    times = [device.seconds(lambda: a @ b) for _ in range(10)]
    return {"side": side, "tflops": 2 * side**3 / statistics.median(times) / 1e12}


def unet_flops(model: Any, size: int) -> float:
    """Of the U-Net's forward for one image of ``size`` px, without guidance; a multiply-add counts as two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side = size // model.factor
    model.prompts.embed(_prompt(0))  # kept, so that the text encoder is not counted
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _forward(model, torch.zeros(1, 4, side, side, device=model.device))
    return float(counter.get_total_flops())


def _forward(model: Any, noisy: Any) -> Any:
    import torch

    context = model.prompts.embed(_prompt(0)).expand(len(noisy), -1, -1)
    return model.predict(noisy, torch.full((len(noisy),), 500), context)


def sd15(told: Told, device: _Device, smoke: bool, rounds: int) -> None:
    """Ours in float32 and bf16, alone and batched, beside diffusers' pipeline one image a call and batched."""
    import torch

    size, steps, some = (64, 6, 1) if smoke else (512, STEPS, 2)
    told.attempt("machine", lambda: _machine(device))
    told.attempt("peak", lambda: peak(device, smoke))
    networks = _networks(smoke, device.name)
    model, pipeline = _model(networks, "bfloat16"), _pipeline(networks, "bfloat16")
    told.add("weights_mib", {n: _weights(networks[n]) for n in ("unet", "vae", "text_encoder")})
    told.attempt("unet_flops", lambda: unet_flops(model, size))
    batches = (1, 2) if smoke else BATCHES
    together = 2 if smoke else TOGETHER
    images = _images(some * max(batches), size)
    works: dict[str, tuple[int, Callable[[int], Any]]] = {}  # name -> images, work of a number of steps
    for batch in batches:
        count = 4 if batch == 1 and not smoke else some * batch
        works[f"ours-bf16-{batch}"] = (
            count,
            lambda steps, batch=batch, count=count: _edit(model, images[:count], size, batch, steps),
        )
    works["diffusers-bf16-1"] = (4, lambda steps: _edit_diffusers(pipeline, images[:4], 1, steps))
    works[f"diffusers-bf16-{together}"] = (
        some * together,
        lambda steps: _edit_diffusers(pipeline, images[: some * together], together, steps),
    )
    side = size // model.factor
    noisy = torch.randn(2 * together, 4, side, side, device=device.name)
    forwards = len(model.timesteps(STRENGTH, steps)) * some

    def alone(steps: int) -> None:
        with torch.no_grad():
            for _ in range(forwards):
                _forward(model, noisy)

    works[f"unet-bf16-{together}"] = (some * together, alone)
    _rounds(told, device, works, rounds, steps, [_weights(model.vae, model.unet, *model.prompts.encoders)])
    told.add("forwards", len(model.timesteps(STRENGTH, steps)))

    plain = _model(networks, "float32")
    batch = batches[1]
    works = {
        f"ours-fp32-{batch}": (batch, lambda steps: _edit(plain, images[:batch], size, batch, steps)),
        "ours-fp32-1": (2, lambda steps: _edit(plain, images[:2], size, 1, steps)),
    }
    _rounds(told, device, works, rounds, steps, [_weights(plain.vae, plain.unet, *plain.prompts.encoders)])
    told.attempt(
        "bf16_from_fp32",
        lambda: _apart(
            _edit(plain, images[:batch], size, batch, steps), _edit(model, images[:batch], size, batch, steps)
        ),
    )


def _rounds(
    told: Told,
    device: _Device,
    works: dict[str, tuple[int, Callable[[int], Any]]],
    rounds: int,
    steps: int,
    weights: list[float],
) -> None:
    """Each once with few steps (and the memory of it), then in turn, round by round."""
    memory = {
        name: told.attempt(f"{name}-mib", lambda work=work: device.mib(lambda: work(6)))
        for name, (_, work) in works.items()
    }
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (count, work) in works.items():
            if isinstance(memory[name], float):
                times.setdefault(name, []).append(device.seconds(lambda work=work: work(steps)))
                ours = {"weights_mib": weights[0]} if name.startswith("ours") else {}
                told.add(name, _spread(count, times[name]) | {"mib": memory[name]} | ours)


def _apart(ones: list[Any], others: list[Any]) -> dict[str, float]:
    """How far apart two lists of images are, in levels of 0 to 255."""
    import numpy as np

    gaps = [np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)) for a, b in zip(ones, others, strict=True)]
    every = np.stack(gaps)
    return {
        "images": len(gaps),
        "alike": int(sum(not gap.any() for gap in gaps)),
        "max": int(every.max()),
        "mean": float(every.mean()),
        "share_over_1": float((every > 1).mean()),
    }


def compiled(told: Told, device: _Device, smoke: bool, rounds: int, meet: Path) -> None:
    """The same with the U-Net compiled by torch.compile, beside itself as it is, once nothing else runs."""
    size, steps, some, together = (64, 6, 1, 2) if smoke else (512, STEPS, 2, TOGETHER)
    networks = _networks(smoke, device.name)
    plain, fast = _model(networks, "bfloat16"), _model(networks, "bfloat16")
    images = _images(some * together, size)
    fast.unet.compile(backend="aot_eager" if smoke else "inductor")
    begun = time.time()
    first = told.attempt("compile_seconds", lambda: device.seconds(lambda: _edit(fast, images, size, together, 6)))
    told.add("compiled_between", [begun, time.time()])
    if first is None:
        return
    (meet / READY).touch()
    while not (meet / GO).exists():
        time.sleep(0.2)
    works = {
        f"ours-bf16-{together}": (len(images), lambda steps: _edit(plain, images, size, together, steps)),
        f"ours-bf16-{together}-compiled": (len(images), lambda steps: _edit(fast, images, size, together, steps)),
    }
    _rounds(told, device, works, rounds, steps, [_weights(plain.vae, plain.unet, *plain.prompts.encoders)])
    told.attempt(
        "compiled_from_plain", lambda: _apart(*(_edit(m, images, size, together, steps) for m in (plain, fast)))
    )


# --- equal bytes ------------------------------------------------------------------------------------------------------


def same_bytes(told: Told, project: Path, device: str, per_class: int) -> None:
    """The demo's sets by stage generate with one, two and three processes on one GPU, all runs at once; hashes of the
    files, and how far apart the pixels are."""
    with tempfile.TemporaryDirectory() as folder:
        top, begun = Path(folder), time.monotonic()
        runs = {name: run for name, run in RUNS.items() if device == "cuda" or name in SMOKE}
        started = {name: _start(top / name, project, run, device, per_class) for name, run in runs.items()}
        for name, processes in started.items():
            codes = [p.wait() for p in processes]
            figures = {"processes": len(codes), "seconds": time.monotonic() - begun}
            if any(codes):
                figures["fault"] = "\n".join(path.read_text()[-600:] for path in sorted((top / name).glob("stderr-*")))
            told.add(name, figures)
        for one, two in PAIRS:
            if not {one, two} <= set(runs):
                continue
            told.attempt(f"{one} = {two}", lambda one=one, two=two: _compare(top / one, top / two))


def _start(root: Path, project: Path, run: tuple[int, str, str], device: str, per_class: int) -> list[Any]:
    count, wanted, dtype = run
    for part in ("data", "models/tokens"):
        shutil.copytree(project / part, root / part)
    (root / "models/base").symlink_to(ROOT / "models/base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--root", str(root), "--device", wanted if device == "cuda" else device, "--dtype", dtype]
    command = [sys.executable, __file__, "generate", *flags, "--per-class", str(per_class)]
    started = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        threads = "1" if wanted == "cuda" else str(max(1, len(os.sched_getaffinity(0)) // 2))
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        if count > 1:
            environment |= {name: str(value) for name, value in own.items()}
        with open(root / f"stderr-{rank}", "w") as faults:
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=faults))
    return started


def generate(root: Path, device: Any, dtype: Any, per_class: int) -> None:
    """One process of a run: stage generate, set by set."""
    from partsynth.augmentation.methods.sdedit import SdeditSet
    from partsynth.config.generation import Generate
    from partsynth.config.models import Diffusion
    from partsynth.stages import generate as stage
    from partsynth.store import workers

    for name, (strength, guidance, variants, restore) in SETS.items():
        stage.run(
            stage.Inputs(
                params=Generate(steps=25, batch_size=32, max_sources=per_class),
                diffusion=Diffusion(size=64, device=device, dtype=dtype),
                augmentation=SdeditSet(strength=strength, guidance=guidance, variants=variants, restore=restore),
                set_name=name,
                real=root / "data/real",
                tokens=root / "models/tokens",
                strengths=root / f"data/strengths/{name}.json",
                out=root / f"data/augmented/{name}",
                root=root,
            )
        )
    workers.here().leave()


def _compare(one: Path, two: Path) -> dict[str, Any]:
    from PIL import Image

    from partsynth.store.hashing import sha256_file

    told = {}
    for name in SETS:
        first, second = (sorted((root / f"data/augmented/{name}").rglob("*.png")) for root in (one, two))
        if not first or [p.name for p in first] != [p.name for p in second]:
            raise ValueError(f"{name}: {len(first)} and {len(second)} files")
        equal = sum(sha256_file(a) == sha256_file(b) for a, b in zip(first, second, strict=True))
        pixels = ([Image.open(p).convert("RGB") for p in paths] for paths in (first, second))
        told[name] = {"files": len(first), "same_sha256": equal} | _apart(*pixels)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("part", choices=["sd15", "compiled", "same-bytes", "generate"])
    parser.add_argument("--out", type=Path, help="file for the figures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--meet", type=Path, help="folder of the files by which the compiled U-Net waits")
    parser.add_argument("--per-class", type=int, default=5)
    options = parser.parse_args()
    if options.part == "generate":
        generate(options.root, options.device, options.dtype, options.per_class)
        return
    told, device = Told(options.out), _Device(options.device)
    if options.part == "same-bytes":
        same_bytes(told, options.project, options.device, options.per_class)
    elif options.part == "sd15":
        sd15(told, device, options.smoke, options.rounds)
    else:
        compiled(told, device, options.smoke, options.rounds, options.meet)


if __name__ == "__main__":
    main()
