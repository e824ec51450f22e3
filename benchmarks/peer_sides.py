"""Sides of `peers.py`: loss, training step, ingest, near duplicates. Each prepares, and returns what is timed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer_inputs import CLASSES, PER_CLASS
from peer_setting import Figures, Setting, Timed

ROWS, DIMENSIONS = (256, 1024, 4096), 128
TEMPERATURE = 0.1
NEAR = 2  # ingest.near_duplicate


# --- the loss ---------------------------------------------------------------------------------------------------------


def _ours(features: Any, labels: Any) -> Any:
    from partsynth.core.contrastive.losses import supcon_loss

    return supcon_loss(features, labels, temperature=TEMPERATURE)


def _supcontrast(features: Any, labels: Any) -> Any:
    """SupContrast's formula, written plainly: every mask and every product is an (M, M) matrix."""
    import torch

    same = (labels[:, None] == labels[None, :]).float()
    logits = features @ features.T / TEMPERATURE
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    others = 1 - torch.eye(len(labels), device=labels.device)
    positives = same * others
    log_probability = logits - torch.log((torch.exp(logits) * others).sum(1, keepdim=True))
    return -((positives * log_probability).sum(1) / positives.sum(1)).mean()


def _metric_learning() -> Callable[[Any, Any], Any]:
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature=TEMPERATURE)


def loss(rows: int, make: Callable[[], Callable[[Any, Any], Any]], setting: Setting) -> Timed:
    """Forward and backward in float32; ``seconds_each``: the best of several; ``mib``: the most that tensors held at
    once beside the inputs, by the allocator's own record (on a CPU torch.profiler's), so of small N too."""
    import time

    import torch

    loss_of = make()
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(rows, DIMENSIONS, generator=generator), dim=1)
    features = features.to(setting.device).requires_grad_()
    labels = torch.randint(0, max(2, rows // 64), (rows,), generator=generator).to(setting.device)
    repeats = 3 if setting.quick else max(7, 2**22 // rows**2)

    def once() -> None:
        features.grad = None
        loss_of(features, labels).backward()

    def work() -> Figures:
        once()
        times, cpus = [], []
        for _ in range(repeats):
            setting.wait()
            start, cpu = time.perf_counter(), time.process_time()
            once()
            setting.wait()
            times.append(time.perf_counter() - start)
            cpus.append(time.process_time() - cpu)
        return {
            "seconds_each": min(times),
            "cpu_each": min(cpus),
            "mib": _peak_cuda(once) if setting.cuda else _peak(once),
        }

    return work


def _peak(once: Callable[[], None]) -> float:
    """MiB."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        once()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def _peak_cuda(once: Callable[[], None]) -> float:
    """MiB, beside what there is before: the features' gradient is made anew."""
    import torch

    once()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    once()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


# --- a training step --------------------------------------------------------------------------------------------------


def _params(setting: Setting) -> Any:
    """Section train of the demo, but with as many threads as the peers have."""
    from partsynth.config.load import load
    from partsynth.config.training import Train

    params = load("train", Path(__file__).parents[1] / "params.yaml")
    assert isinstance(params, Train)
    precision = "bf16" if setting.dtype == "bfloat16" else "no"
    return params.model_copy(update={"device": setting.device, "precision": precision, "threads": None})


def _count(setting: Setting) -> int:
    return 8 if setting.quick else 100


def step(setting: Setting) -> Timed:
    """Training steps as stage train takes them: batches drawn, views, network, loss, optimiser."""
    import numpy as np
    import torch

    from partsynth.core.contrastive.optimizer import Muon
    from partsynth.training.classifier import build_encoder
    from partsynth.training.devices import make_accelerator
    from partsynth.training.fit import make_batches, train_step
    from partsynth.training.images import TrainingImages

    params = _params(setting)
    size = params.size
    real, made = len(CLASSES) * PER_CLASS, 2 * len(CLASSES) * PER_CLASS
    kinds = np.repeat([0, 1, 2], [real, real, real])  # photographs, positives, negatives
    generator = torch.Generator().manual_seed(0)
    images = TrainingImages(
        classes=CLASSES,
        images=torch.randint(0, 256, (real + made, size, size, 3), generator=generator, dtype=torch.uint8),
        labels=np.arange(real + made) % len(CLASSES),
        is_negative=kinds == 2,
        is_synthetic=kinds > 0,
        source=np.arange(real + made) % real,
        val_images=torch.zeros(0, size, size, 3, dtype=torch.uint8),
        val_labels=np.zeros(0, np.int64),
    )
    accelerator = make_accelerator(params)
    batches, bare = make_batches(images, params, 0), build_encoder(params, 0)
    optimizer = Muon(bare.parameters(), params.learning_rate, params.weight_decay)
    network, optimizer = accelerator.prepare(bare, optimizer)
    pixels = images.images.to(accelerator.device)

    def some(first: int, count: int) -> None:
        for n in range(first, first + count):
            train_step(network, optimizer, accelerator, pixels, batches.step(n), params, 0, n)

    some(0, 3)
    return lambda: some(3, _count(setting))


def bare_step(setting: Setting) -> Timed:
    """Forward and backward of the same network on as many views, and nothing else."""
    import torch

    from partsynth.training.classifier import build_encoder

    params = _params(setting)
    network = build_encoder(params, 0).train().to(setting.device)
    views = torch.rand(2 * (params.anchors + params.negatives), 3, params.size, params.size, device=setting.device)

    def some(count: int) -> None:
        for _ in range(count):
            network.zero_grad(set_to_none=True)
            with setting.mixed():
                embeddings = network(views)
            embeddings.float().sum().backward()

    some(3)
    return lambda: some(_count(setting))


def plain_loop(setting: Setting) -> Timed:
    """A loop as one writes it: ImageFolder, two views per image by torchvision's transforms in a DataLoader with a
    worker per core, the same network, SupContrast's loss and SGD."""
    import torch
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from partsynth.training.classifier import build_encoder

    params = _params(setting)
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(params.size, scale=(0.6, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
        ]
    )
    folder = ImageFolder(str(setting.inputs / "project/data/real/train"), _Two(view))
    together = params.anchors + params.negatives
    loader = DataLoader(
        folder,
        batch_size=together,
        sampler=RandomSampler(folder, replacement=True, num_samples=together * 10_000),  # no end of an epoch to wait at
        pin_memory=setting.cuda,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=True,
    )
    network = build_encoder(params, 0).train().to(setting.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def batches() -> Any:
        while True:
            yield from loader

    drawn = batches()

    def some(count: int) -> None:
        for _ in range(count):
            (first, second), labels = next(drawn)
            seen = torch.cat([first, second]).to(setting.device, non_blocking=True)
            optimizer.zero_grad(set_to_none=True)
            with setting.mixed():
                embeddings = network(seen)
            _supcontrast(embeddings.float(), labels.repeat(2).to(setting.device)).backward()
            optimizer.step()

    some(3)
    return lambda: some(_count(setting))


class _Two:
    """Two views of an image; a class, so that a worker process can take it."""

    def __init__(self, view: Callable[[Any], Any]) -> None:
        self.view = view

    def __call__(self, image: Any) -> tuple[Any, Any]:
        return self.view(image), self.view(image)


# --- ingest -----------------------------------------------------------------------------------------------------------


def ingest(setting: Setting) -> Timed:
    """Stage ingest of JPEG photographs: read, hashed, checked, framed, searched for duplicates, written."""
    from partsynth.config.data import Ingest, Ood
    from partsynth.stages import ingest as stage

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            stage.run(
                stage.Inputs(
                    params=Ingest(source="folder", path=str(setting.inputs / "photographs"), masks="none", size=64),
                    ood_params=Ood(),
                    raw=setting.inputs / "photographs",
                    real=root / "data/real",
                    ood=root / "data/ood",
                    root=root,
                )
            )

    return work


def _size(image: Any) -> tuple[int, int]:
    return image.size


def image_folder(setting: Setting) -> Timed:
    """torchvision's ImageFolder decodes the same files in one loop, and does nothing with them."""
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(setting.inputs / "photographs"), _size)
    return lambda: {"images": sum(1 for i in range(len(folder)) if folder[i])}


def image_folder_workers(setting: Setting) -> Timed:
    """The same in a DataLoader with a worker per core; only sizes come back."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(str(setting.inputs / "photographs"), _size)
    workers = len(os.sched_getaffinity(0))
    return lambda: {"images": sum(1 for _ in DataLoader(folder, batch_size=None, num_workers=workers))}


# --- near duplicates --------------------------------------------------------------------------------------------------


def _images(quick: bool) -> list[Any]:
    import numpy as np
    from peer_inputs import picture

    rng = np.random.default_rng(3)
    return [picture(rng, 128, 128) for _ in range(200 if quick else 2000)]


def near(setting: Setting, turned: bool) -> Timed:
    """Thumbnails, hashes of 256 bits and all pairs of them, as stage ingest looks for duplicates across splits."""
    import numpy as np

    from partsynth.core.images.duplicates import HASH_BITS, near_pairs, thumbnail, turned_pairs

    images = _images(setting.quick)
    parts = np.arange(len(images)) % 2

    def work() -> None:
        thumbs, limit = np.stack([thumbnail(image) for image in images]), NEAR * HASH_BITS // 64
        near_pairs(thumbs, parts, limit)
        if turned:
            turned_pairs(thumbs, parts, limit)

    return work


def image_hash(setting: Setting, by_hand: bool) -> Timed:
    """imagehash's phash of 64 bits, and all pairs: ``a - b`` as its pages have it, or (by hand) at once by numpy."""
    import imagehash
    import numpy as np

    images = _images(setting.quick)

    def work() -> None:
        hashes = [imagehash.phash(image) for image in images]
        if by_hand:
            bits = np.stack([h.hash.ravel() for h in hashes]).astype(np.float32)  # (N, 64)
            apart = bits @ (1 - bits.T) + (1 - bits) @ bits.T  # (N, N)
            np.argwhere(np.triu(apart <= NEAR, 1))
        else:
            [(i, j) for i, a in enumerate(hashes) for j in range(i) if a - hashes[j] <= NEAR]

    return work


SIDES: dict[str, Callable[[Setting], Timed]] = {
    **{f"loss-{n}": lambda setting, n=n: loss(n, lambda: _ours, setting) for n in ROWS},
    **{f"loss-{n}-supcontrast": lambda setting, n=n: loss(n, lambda: _supcontrast, setting) for n in ROWS},
    **{f"loss-{n}-pml": lambda setting, n=n: loss(n, _metric_learning, setting) for n in ROWS},
    "step": step,
    "bare-step": bare_step,
    "plain-loop": plain_loop,
    "ingest": ingest,
    "image-folder": image_folder,
    "image-folder-workers": image_folder_workers,
    "near": lambda setting: near(setting, turned=False),
    "near-turned": lambda setting: near(setting, turned=True),
    "imagehash": lambda setting: image_hash(setting, by_hand=False),
    "imagehash-numpy": lambda setting: image_hash(setting, by_hand=True),
}
