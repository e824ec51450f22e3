"""The frozen feature extractor that measures drift: the embedded encoder, or DINOv2/CLIP from a folder or a hub id."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

EMBEDDED = "partsynth-reference-encoder"


class ReferenceNet(nn.Module):
    """A small residual network with group normalisation: (B, 3, S, S) in [-1, 1] -> (B, D), L2-normalised.

    Group rather than batch normalisation: an image's features must not depend on the images beside it.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), dimensions: int = 128) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "dimensions": dimensions}
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        blocks = [_Block(a, b) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * widths[-1], dimensions)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.stem(images))  # (B, C, S / 8, S / 8)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)  # (B, 2C): the maximum keeps small features
        return F.normalize(self.head(pooled).float(), dim=1)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        stride = 1 if inside == outside else 2
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(8, inside), nn.GroupNorm(8, outside)])
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norms[0](x))
        h = self.first(h)
        return self.skip(x) + self.second(F.silu(self.norms[1](h)))


class ReferenceEncoder:
    """Images in, L2-normalised float32 features out."""

    def __init__(self, net: nn.Module, size: int, mean: Sequence[float], std: Sequence[float], device: str) -> None:
        self.net = net.eval().requires_grad_(False).to(device)
        self.size = size
        self.device = device
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image] | np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Features (B, D) float32 of PIL images of any size, or of a uint8 array (B, H, W, 3)."""
        features = []
        for start in range(0, len(images), batch_size):
            features.append(self._embed(images[start : start + batch_size]))
        return np.concatenate(features) if features else np.zeros((0, 0), np.float32)

    def _embed(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        arrays = [self._fit(image) for image in images]
        x = torch.from_numpy(np.stack(arrays)).to(self.device).permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
        out = self.net((x - self.mean) / self.std)
        out = _pooled(out) if not isinstance(out, Tensor) else out
        return F.normalize(out.float(), dim=1).cpu().numpy()

    def _fit(self, image: Image.Image | np.ndarray) -> np.ndarray:
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image = image.convert("RGB")
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(image)


def _pooled(out: object) -> Tensor:
    """DINOv2 answers with pooler_output, CLIP's vision model with image_embeds or pooler_output."""
    for name in ("image_embeds", "pooler_output"):
        value = getattr(out, name, None)
        if value is not None:
            return value
    return out.last_hidden_state[:, 0]  # type: ignore[attr-defined]


def save(net: ReferenceNet, folder: Path, size: int) -> None:
    """Write the embedded encoder: config.json and model.safetensors (fp16 on disk)."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().half().contiguous().cpu() for k, v in net.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps({"model_type": EMBEDDED, "size": size, **net.config}, indent=1) + "\n"
    )


def load(model: str, revision: str | None = None, device: str = "cpu") -> ReferenceEncoder:
    """Load the embedded encoder's folder, or DINOv2 / CLIP from a local folder or hub id.

    Raises
    ------
    FileNotFoundError
        where ``model`` is a path (contains a separator and exists nowhere) without a config.json.
    ValueError
        where the folder holds another kind of model.
    """
    folder = Path(model)
    if folder.exists():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder}: no config.json, so not a reference encoder (embedded, DINOv2 or CLIP)")
        try:
            config = json.loads((folder / "config.json").read_text())
            if config.get("model_type") == EMBEDDED:
                weights = load_file(folder / "model.safetensors")
                if not all(weight.is_floating_point() for weight in weights.values()):
                    raise TypeError("whole numbers for weights")
                net = ReferenceNet(config["widths"], config["dimensions"])
                net.load_state_dict({name: weight.float() for name, weight in weights.items()})
                net.to(memory_format=torch.channels_last)
                return ReferenceEncoder(net, operator.index(config["size"]), (0.5,) * 3, (0.5,) * 3, device)
        except (OSError, TypeError, KeyError, AttributeError, RuntimeError, ValueError, SafetensorError) as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            raise ValueError(f"{folder}: its config.json and model.safetensors make no encoder ({told})") from error
    elif model.count("/") != 1 or model.startswith((".", "/", "models/")):
        raise FileNotFoundError(f"{folder} does not exist (a folder, or a hub id such as facebook/dinov2-small)")
    return _load_transformers(model, revision, device)


def _load_transformers(model: str, revision: str | None, device: str) -> ReferenceEncoder:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection

    revision = revision or "main"
    config = AutoConfig.from_pretrained(model, revision=revision)
    if config.model_type in ("clip", "clip_vision_model"):
        net: nn.Module = CLIPVisionModelWithProjection.from_pretrained(model, revision=revision, use_safetensors=True)
    elif config.model_type.startswith("dinov2"):
        net = AutoModel.from_pretrained(model, revision=revision, use_safetensors=True)
    else:
        raise ValueError(f"{model}: model_type {config.model_type!r}; allowed: {EMBEDDED}, dinov2, clip")
    try:
        processor = AutoImageProcessor.from_pretrained(model, revision=revision)
        size = getattr(processor, "crop_size", None) or processor.size
        side = size.get("height") or size.get("shortest_edge")
        mean, std = processor.image_mean, processor.image_std
    except OSError:  # weights without a preprocessor file: both families' usual values
        side, mean, std = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ReferenceEncoder(net, int(side), mean, std, device)
