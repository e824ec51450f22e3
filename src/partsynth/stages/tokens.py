"""Stage ``tokens``: one learned token per class, by textual inversion on the class's training images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.augmentation.base_model import find_base
from partsynth.augmentation.learning import first_words, prepare, token_of, train
from partsynth.config.generation import Tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.files import prune, write_json
from partsynth.store.hashing import fingerprint, sha256_file
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.state import SavedState
from partsynth.store.tensors import safetensors_metadata, write_safetensors

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # raise it when the same inputs give other vectors
CURVE_POINTS = 20


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the stage reads, and where it writes."""

    params: Tokens
    diffusion: Diffusion
    real: Path
    """Folder written by ingest."""
    out: Path
    """Folder for the tokens."""
    root: Path


def run(inputs: Inputs) -> None:
    """Write ``out/<class>.safetensors`` for every class of ``real``'s training split, then ``out/manifest.json``.

    A file holds ``vectors`` (V, width) and, as metadata, what it was learned from; diffusers'
    ``load_textual_inversion(file, token=...)`` reads it. A class whose images, parameters and base model are
    unchanged keeps its file, so one more class trains one more token. The classes to train are trained jointly; a
    killed run goes on from its last checkpoint in ``root/.work/tokens`` and ends with the same bytes.

    Raises
    ------
    UserError
        where there are no training images, one differs from its manifest, a pattern of ``init_words`` matches no
        class, the base model cannot be loaded, or its tokenizer does not know a word or cannot hold a prompt.
    """
    params, diffusion, out, layout = inputs.params, inputs.diffusion, inputs.out, Layout(inputs.root)
    (out / "manifest.json").unlink(missing_ok=True)
    model = find_base(diffusion, inputs.root)
    base = model.identity
    classes = _training_images(inputs.real / MANIFEST)
    words = first_words(params, list(classes))
    marks = {name: _mark(params, diffusion, base, name, words[name], rows) for name, rows in classes.items()}
    files = {name: out / f"{name}.safetensors" for name in classes}
    stale = [name for name in classes if (safetensors_metadata(files[name]) or {}).get("fingerprint") != marks[name]]
    print(f"tokens: {len(classes)} classes, {len(classes) - len(stale)} of them kept")
    if stale:
        identity = fingerprint([marks[name] for name in stale])
        state = SavedState(layout.work / "tokens" / f"{identity}.safetensors", identity)
        training = prepare(params, diffusion, model, {name: classes[name] for name in stale}, words, inputs.root)
        train(training, state)
        vectors = training.result()
        for i, name in enumerate(stale):
            metadata = {
                "class_name": name,
                "token": token_of(name),
                "fingerprint": marks[name],
                "base_sha256": base,
                "sources": json.dumps([[r.path, r.sha256] for r in classes[name]]),
                "init_word": words[name],
                "steps": str(params.steps),
                "seed": str(params.seed),
                **_losses(training.losses[:, i]),
            }
            write_safetensors(files[name], {"vectors": vectors[token_of(name)]}, metadata)
        state.delete()
    prune(out, files.values())
    write_json(out / "manifest.json", {"base_sha256": base, "tokens": {n: _entry(p, layout) for n, p in files.items()}})


def _training_images(manifest: Path) -> dict[str, list[RealRecord]]:
    classes: dict[str, list[RealRecord]] = defaultdict(list)
    for row in read_manifest(manifest, RealRecord):
        if row.split == "train" and row.role == "target":
            classes[row.class_name].append(row)
    if not classes:
        raise UserError(f"{manifest} has no training images to learn tokens from")
    return {name: sorted(classes[name], key=lambda row: row.path) for name in sorted(classes)}


def _mark(params: Tokens, diffusion: Diffusion, base: str, name: str, word: str, rows: Sequence[RealRecord]) -> str:
    images = sorted([row.sha256, row.state] for row in rows)
    own = params.model_copy(update={"init_word": word, "init_words": {}})  # other classes' words change nothing here
    return fingerprint([VERSION, name, images, own, base, diffusion.size, diffusion.dtype])


def _losses(curve: Tensor) -> dict[str, str]:
    """The last tenth's mean of a class's losses (steps,), and means of CURVE_POINTS equal parts."""
    means = [round(float(part.mean()), 6) for part in curve.tensor_split(CURVE_POINTS) if len(part)]
    final = float(curve[-max(1, len(curve) // 10) :].mean())
    return {"final_loss": f"{final:.6f}", "loss_curve": json.dumps(means)}


def _entry(path: Path, layout: Layout) -> dict[str, str | float]:
    metadata = safetensors_metadata(path) or {}
    return {
        "path": layout.relative(path),
        "sha256": sha256_file(path),
        "token": metadata["token"],
        "fingerprint": metadata["fingerprint"],
        "final_loss": float(metadata["final_loss"]),
    }
