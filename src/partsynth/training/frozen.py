"""Features of a backbone that nobody trains, made once for all setups, seeds and stages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.lineage.code import code_hash
from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.store.hashing import fingerprint
from partsynth.store.layout import Layout

BATCH_SIZE = 32  # the one size of a pass: features may depend on a batch's shape in their last bits
COLUMNS = ("features",)


class FrozenFeatures:
    """What an encoder's frozen backbone has given, in a file below .work; see ``encoders.Memory``.

    A feature is kept under the hash of the view's own pixels, the file is named by the backbone's weights and the code:
    whatever changes, a feature of something else is never taken.
    """

    def __init__(self, encoder: encoders.Encoder, root: Path) -> None:
        state = hashlib.sha256()
        for name, value in sorted(encoder.backbone.state_dict().items()):
            state.update(f"{name} {tuple(value.shape)}".encode())
            state.update(value.detach().cpu().contiguous().numpy().tobytes())
        facts = [encoder.mean.flatten().tolist(), encoder.std.flatten().tolist(), torch.__version__, code_hash("train")]
        name = fingerprint(["frozen features", state.hexdigest(), *facts])
        self.path = Layout(root).features / f"backbone-{name[:16]}.safetensors"
        self.rows: dict[str, Row] = read_cache(self.path, COLUMNS)
        self._stored = len(self.rows)

    def __call__(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (B, D) of float images (B, 3, S, S), on their device."""
        keys = [hashlib.sha256(row.tobytes()).hexdigest() for row in images.cpu().contiguous().numpy()]
        missing = list({key: i for i, key in enumerate(keys) if key not in self.rows}.values())
        for start in range(0, len(missing), BATCH_SIZE):
            part = missing[start : start + BATCH_SIZE]
            padded = part + [part[-1]] * (BATCH_SIZE - len(part))
            with torch.no_grad():
                made = compute(images[padded])[: len(part)].float().cpu().numpy()
            self.rows |= {keys[i]: (row,) for i, row in zip(part, made, strict=True)}
        if not keys:
            return compute(images)
        return torch.stack([torch.as_tensor(self.rows[key][0]) for key in keys]).to(images.device)

    def keep(self) -> None:
        """Write what was made since it was read."""
        if len(self.rows) > self._stored:
            write_cache(self.path, COLUMNS, self.rows)
            self._stored = len(self.rows)
