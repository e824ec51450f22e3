"""Renders and a judge for benchmarks/base_model.py: fresh pictures, and one network that names what they show.

The judge has seen hundreds of renders of the target classes, so the pipeline must never use it (held by a test).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))  # worker processes import this module by its bare name

import target_renders

# Twelve corpus variants, as close to each other as the targets are: what is chosen is chosen on these.
VARIANTS = (
    ("alternator", 12, 1, 1),
    ("alternator", 12, 2, 1),
    ("alternator", 8, 1, 1),
    ("gear", 10, 4, 0),
    ("gear", 10, 5, 0),
    ("gear", 8, 4, 0),
    ("flange", 4, 5, 0),
    ("flange", 4, 6, 0),
    ("flange", 3, 5, 0),
    ("pump", 2, 1, 3),
    ("pump", 3, 1, 3),
    ("pump", 2, 1, 4),
)
WIDE = 90  # pictures of a variant for the judge, in wide settings
PARTS = 8  # physical parts of a variant, photographed twice as in the demo: for tokens and as sources of edits
FIRST_FRESH = 20_000  # the corpus ends before this index
SEED = 11
CHUNK = 100  # pictures a cached file


# --- renders ------------------------------------------------------------------------------------------------------


def variant_names() -> list[str]:
    from partsynth.rendering import catalog

    return [catalog.variant(*v).name for v in VARIANTS]


def _frame(image: np.ndarray, mask: np.ndarray, dilation: float) -> np.ndarray:
    from PIL import Image

    from partsynth.core.images import framing

    box = framing.roi_box(mask, framing.dilation_pixels(dilation, mask.shape))
    return np.asarray(framing.crop_resize(Image.fromarray(image), box, target_renders.SIDE, Image.Resampling.LANCZOS))


def render_variant(label: int, index: int) -> dict[str, Any]:
    """Picture ``index`` of a corpus variant: below WIDE in wide settings, then in the demo's narrow ones."""
    from partsynth.rendering import catalog, scene

    part = catalog.variant(*VARIANTS[label])
    wide = index < WIDE
    # a part's two pictures share everything but the camera
    rng = np.random.default_rng([SEED, label, index if wide else WIDE + (index - WIDE) // 2])
    ranges = (catalog.NARROW if index % 3 == 0 else catalog.CORPUS) if wide else catalog.NARROW
    worn = catalog.draw_wear(ranges, rng, catalog.DEMO_MATERIAL[part.family])
    shot = catalog.draw_shots(ranges, rng)[catalog.CAMERAS[index % 2]]
    samples = target_renders.SAMPLES if wide else 16
    image, mask = scene.photograph(
        part.family, part.values, int(rng.integers(2**31)), worn, shot, target_renders.RAW_SIDE, samples
    )
    framed = _frame(image, mask, 0.05 if wide else 0.04)
    return {"images": framed, "labels": label, "states": worn.state, "families": part.family, "wide": wide}


def render_fresh(index: int) -> dict[str, Any]:
    """A corpus picture the base model has not seen."""
    from partsynth.rendering import corpus

    row = corpus.render_one(0, FIRST_FRESH + index)
    return {key: row[key] for key in ("images", "states", "families")}


def render_grain(index: int) -> dict[str, Any]:
    """One scene of a target class three times: 25 samples a pixel with two render seeds, then 256."""
    from partsynth.rendering import catalog, scene

    rng = np.random.default_rng([SEED, 99, index])
    part = catalog.TARGETS[index % len(catalog.TARGETS)]
    worn = catalog.draw_wear(catalog.CORPUS, rng, catalog.DEMO_MATERIAL[part.family])
    shot = catalog.draw_shots(catalog.CORPUS, rng)[catalog.CAMERAS[index % 2]]
    seed = int(rng.integers(2**31))
    takes = []
    for render_seed, samples in ((1, target_renders.SAMPLES), (2, target_renders.SAMPLES), (3, 256)):
        taken = replace(shot, render_seed=render_seed)
        image, mask = scene.photograph(part.family, part.values, seed, worn, taken, target_renders.RAW_SIDE, samples)
        if not takes:
            frame = mask  # one frame for all three
        takes.append(_frame(image, frame, 0.05))
    return {"images": np.stack(takes)}


def collect(
    folder: Path, name: str, render: Callable[..., dict], jobs: Sequence[tuple], workers: int
) -> dict[str, Any]:
    """Arrays over the jobs' pictures, rendered in chunks that are kept in ``folder``."""
    from partsynth.rendering.pool import pool

    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    paths = [folder / f"{name}-{i:03d}.npz" for i in range(len(chunks))]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with pool(workers) as processes:
            for i in missing:
                rows = list(processes.map(render, *zip(*chunks[i], strict=True), chunksize=5))
                draft = paths[i].with_suffix(".draft")
                with draft.open("wb") as file:
                    np.savez_compressed(file, **{key: np.array([row[key] for row in rows]) for key in rows[0]})
                draft.replace(paths[i])
                print(f"rendered {name} {i + 1}/{len(chunks)}", flush=True)
    parts = [np.load(path, allow_pickle=False) for path in paths]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files}


def variant_pictures(folder: Path, workers: int) -> dict[str, Any]:
    jobs = [(c, i) for i in range(WIDE + 2 * PARTS) for c in range(len(VARIANTS))]
    return collect(folder, "variants", render_variant, jobs, workers)


def fresh_pictures(folder: Path, workers: int, count: int) -> dict[str, Any]:
    return collect(folder, "fresh", render_fresh, [(i,) for i in range(count)], workers)


def grain_pictures(folder: Path, workers: int, count: int) -> np.ndarray:
    """(N, 3, 64, 64, 3) uint8: two grainy takes and a nearly noise-free one."""
    return collect(folder, "grain", render_grain, [(i,) for i in range(count)], workers)["images"]


def target_pictures(folder: Path) -> dict[str, Any]:
    target_renders.render(folder / "targets.npz", 200)
    with np.load(folder / "targets.npz", allow_pickle=False) as data:
        found = {key: data[key] for key in data.files}
    names = found["classes"].tolist()
    found["families"] = np.array([names[i].split("_")[0] for i in found["labels"]])
    return found


# --- judge --------------------------------------------------------------------------------------------------------


class Judge(nn.Module):
    """The reference encoder's architecture, its weights as a start, and a linear head for each question."""

    def __init__(self, heads: dict[str, list[str]], reference: Path) -> None:
        super().__init__()
        from partsynth.core.drift.reference import ReferenceNet, load

        self.names = heads
        self.body = ReferenceNet()
        self.body.load_state_dict(load(str(reference)).net.state_dict())
        del self.body.head
        self.norm = nn.LayerNorm(256)
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(answers)) for name, answers in heads.items()})
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, 64, 64) in [-1, 1] -> logits (B, answers) a head."""
        x = self.body.blocks(self.body.stem(images.contiguous(memory_format=torch.channels_last)))
        x = self.norm(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1).float())
        return {name: head(x) for name, head in self.heads.items()}

    @torch.inference_mode()
    def answers(self, images: Tensor, question: str) -> np.ndarray:
        """The most likely answers (N,) of str for pictures (N, 3, H, W) in [-1, 1]."""
        self.eval()
        best = torch.cat([self(part)[question].argmax(1) for part in images.split(64)])
        return np.array(self.names[question])[best.numpy()]


def as_tensor(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) -> (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_judge(
    path: Path,
    reference: Path,
    heads: dict[str, list[str]],
    images: np.ndarray,
    answers: dict[str, np.ndarray],
    epochs: int,
    batch_size: int = 48,
) -> Judge:
    """A judge of pictures (N, 64, 64, 3) with ``answers[head]`` (N,) of str, "" where a question does not apply.

    Kept in ``path`` under a fingerprint of all it was trained on, with a checkpoint an epoch.
    """
    from safetensors.torch import load_file, save_file

    from partsynth.store.hashing import fingerprint, sha256_tree
    from partsynth.store.tensors import safetensors_metadata

    pictures, start = hashlib.sha256(images.tobytes()).hexdigest(), sha256_tree(reference)
    mark = fingerprint([heads, start, pictures, {k: v.tolist() for k, v in answers.items()}, epochs, batch_size])
    torch.manual_seed(0)
    judge = Judge(heads, reference)
    done = 0
    optimiser = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.02)
    names = [name for name, _ in judge.named_parameters()]
    known = safetensors_metadata(path) or {}
    if known.get("fingerprint") == mark:
        tensors = load_file(path)
        judge.load_state_dict({k[2:]: v for k, v in tensors.items() if k.startswith("w.")})
        done = int(known["epoch"])
        for name, parameter in zip(names, judge.parameters(), strict=True):
            moments = {key: tensors[f"{key}.{name}"].clone() for key in ("exp_avg", "exp_avg_sq") if done < epochs}
            optimiser.state[parameter] = {"step": torch.tensor(float(known["step"])), **moments}
    classes = {name: {answer: i for i, answer in enumerate(found)} for name, found in heads.items()}
    wanted = {
        name: torch.tensor([classes[name].get(answer, -100) for answer in found]) for name, found in answers.items()
    }
    batches = len(images) // batch_size
    for epoch in range(done, epochs):
        generator = torch.Generator().manual_seed(1000 + epoch)
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        judge.train()
        for i in range(batches):
            progress = (epoch * batches + i) / (epochs * batches)
            optimiser.param_groups[0]["lr"] = (
                1e-3 * min(1.0, (epoch * batches + i + 1) / 60) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * progress)))
            )
            rows = order[i * batch_size : (i + 1) * batch_size]
            views = _views(as_tensor(images[rows.numpy()]), generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits = judge(views)
            loss = torch.zeros(())
            for name, made in logits.items():
                if (wanted[name][rows] >= 0).any():
                    loss = loss + F.cross_entropy(made.float(), wanted[name][rows], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 2.0)
            optimiser.step()
            total += loss.item()
        last = epoch + 1 == epochs
        tensors = {f"w.{k}": v.contiguous() for k, v in judge.state_dict().items()}
        if not last:
            for name, parameter in zip(names, judge.parameters(), strict=True):
                for key in ("exp_avg", "exp_avg_sq"):
                    tensors[f"{key}.{name}"] = optimiser.state[parameter][key].contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, {"fingerprint": mark, "epoch": str(epoch + 1), "step": str((epoch + 1) * batches)})
        print(f"judge: epoch {epoch + 1}/{epochs}, loss {total / batches:.3f}", flush=True)
    return judge.eval()


def _views(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored, zoomed by up to 8 %, shifted by up to 4 %, brightness and contrast by up to 10 %, grain or blur."""
    n = len(batch)
    uniform = torch.rand(8, n, generator=generator) * 2 - 1
    zoom, flip = 0.98 + 0.06 * uniform[1], torch.where(uniform[0] < 0, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = flip * zoom, zoom
    theta[:, 0, 2], theta[:, 1, 2] = 0.08 * uniform[2], 0.08 * uniform[3]
    grid = F.affine_grid(theta, batch.shape, align_corners=False)
    moved = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    moved = moved * (1 + 0.1 * uniform[4].view(-1, 1, 1, 1)) + 0.1 * uniform[5].view(-1, 1, 1, 1)
    grain = 0.05 * uniform[6].clamp(min=0).view(-1, 1, 1, 1) * torch.randn(moved.shape, generator=generator)
    soft = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    weight = 0.5 * uniform[7].clamp(min=0).view(-1, 1, 1, 1)
    return (moved * (1 - weight) + soft * weight + grain).clamp(-1, 1)
