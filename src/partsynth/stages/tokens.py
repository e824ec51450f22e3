"""Stage ``tokens``: one learned token a class, by textual inversion on the class's training pictures."""

from __future__ import annotations

import fnmatch
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from partsynth.config.generation import Diffusion, Tokens
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.base_model import locate_base
from partsynth.store.files import prune, write_json
from partsynth.store.hashing import fingerprint, seed_from, sha256_file
from partsynth.store.tensors import safetensors_metadata, write_safetensors

if TYPE_CHECKING:
    from partsynth.core.diffusion.inversion import Inversion

VERSION = 1  # raise it when the same inputs give other vectors
CHECKPOINT_SECONDS = 10.0
CURVE_POINTS = 20


def run(params: Tokens, diffusion: Diffusion, real: Path, out: Path, root: Path) -> None:
    """Write ``out/<class>.safetensors`` for every class of ``real``'s training split, then ``out/manifest.json``.

    A file holds ``vectors`` (V, width) and, as metadata, what it was learned from; diffusers'
    ``load_textual_inversion(file, token=...)`` reads it. A class whose pictures, parameters and base model are
    unchanged keeps its file, so one more class trains one more token. The classes to train are trained jointly; a
    killed run goes on from its last checkpoint in ``root/.work/tokens`` and ends with the same bytes.

    Raises
    ------
    UserError
        where there are no training pictures, one differs from its manifest, a pattern of ``init_words`` matches no
        class, the base model cannot be loaded, or its tokenizer does not know a word or cannot hold a prompt.
    """
    (out / "manifest.json").unlink(missing_ok=True)
    location, base = locate_base(diffusion.model, diffusion.revision, root)
    classes = _training_pictures(real / "manifest.csv")
    words = first_words(params, list(classes))
    marks = {name: _mark(params, diffusion, base, name, words[name], rows) for name, rows in classes.items()}
    files = {name: out / f"{name}.safetensors" for name in classes}
    stale = [name for name in classes if (safetensors_metadata(files[name]) or {}).get("fingerprint") != marks[name]]
    print(f"tokens: {len(classes)} classes, {len(classes) - len(stale)} of them kept")
    if stale:
        checkpoint = root / ".work/tokens" / f"{fingerprint([marks[name] for name in stale])}.safetensors"
        training = _prepare(params, diffusion, location, {name: classes[name] for name in stale}, words, root)
        _train(training, checkpoint)
        vectors = training.result()
        for i, name in enumerate(stale):
            curve = training.losses[:, i]
            means = [round(float(c.mean()), 6) for c in curve.tensor_split(CURVE_POINTS) if len(c)]
            metadata = {
                "class_name": name,
                "token": token_of(name),
                "fingerprint": marks[name],
                "base_sha256": base,
                "sources": json.dumps([[r.path, r.sha256] for r in classes[name]]),
                "init_word": words[name],
                "steps": str(params.steps),
                "seed": str(params.seed),
                "final_loss": f"{float(curve[-max(1, len(curve) // 10) :].mean()):.6f}",
                "loss_curve": json.dumps(means),
            }
            write_safetensors(files[name], {"vectors": vectors[token_of(name)]}, metadata)
        checkpoint.unlink(missing_ok=True)
    prune(out, files.values())
    write_json(out / "manifest.json", {"base_sha256": base, "tokens": {n: _entry(p, root) for n, p in files.items()}})


def token_of(class_name: str) -> str:
    """How the class is written in prompts."""
    return f"<{class_name}>"


def _training_pictures(manifest: Path) -> dict[str, list[RealRecord]]:
    classes: dict[str, list[RealRecord]] = defaultdict(list)
    for row in read_manifest(manifest, RealRecord):
        if row.split == "train" and row.role == "target":
            classes[row.class_name].append(row)
    if not classes:
        raise UserError(f"{manifest} has no training pictures to learn tokens from")
    return {name: sorted(classes[name], key=lambda row: row.path) for name in sorted(classes)}


def first_words(params: Tokens, classes: list[str]) -> dict[str, str]:
    """The word that each class starts from: the first pattern that matches decides."""
    for pattern in params.init_words:
        if not fnmatch.filter(classes, pattern):
            raise UserError(f"tokens.init_words: {pattern!r} matches no class; there are {', '.join(classes)}")
    return {
        name: next((w for p, w in params.init_words.items() if fnmatch.fnmatchcase(name, p)), params.init_word)
        for name in classes
    }


def _mark(params: Tokens, diffusion: Diffusion, base: str, name: str, word: str, rows: list[RealRecord]) -> str:
    pictures = sorted([row.sha256, row.state] for row in rows)
    own = params.model_copy(update={"init_word": word, "init_words": {}})  # other classes' words change nothing here
    return fingerprint([VERSION, name, pictures, own, base, diffusion.size, diffusion.dtype])


def _prepare(
    params: Tokens,
    diffusion: Diffusion,
    location: str,
    classes: dict[str, list[RealRecord]],
    words: dict[str, str],
    root: Path,
) -> Inversion:
    """Read the pictures first (their faults cost no time), then load the model and cache the latents."""
    pictures = {name: [read_image(root, row) for row in rows] for name, rows in classes.items()}

    from PIL import ImageOps

    from partsynth.core.diffusion.images import fill, to_tensor
    from partsynth.core.diffusion.inversion import Concept, Inversion
    from partsynth.core.diffusion.model import load

    try:
        model = load(location, diffusion.revision, diffusion.device, diffusion.dtype)
    except (ValueError, OSError) as error:
        raise UserError(f"diffusion.model: {error}") from error
    concepts = []
    for name, rows in classes.items():
        images, token = pictures[name], token_of(name)
        prompts = [[fill(template, row.state, token) for template in params.templates] for row in rows]
        if params.flips:
            images, prompts = images + [ImageOps.mirror(image) for image in images], prompts * 2
        latents = model.encode(to_tensor(images, diffusion.size))
        concepts.append(Concept(token, latents, prompts, seed_from("tokens", params.seed, name), words[name]))
    try:
        return Inversion(
            model,
            concepts,
            vectors=params.vectors,
            steps=params.steps,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            warmup=params.warmup,
        )
    except ValueError as error:
        raise UserError(f"tokens: {error}") from error


def _train(training: Inversion, checkpoint: Path) -> None:
    from safetensors.torch import load_file

    prune(checkpoint.parent, [checkpoint])
    if safetensors_metadata(checkpoint) is not None:
        training.restore(load_file(checkpoint))
        print(f"tokens: going on from step {training.done} of {training.steps}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    saved = time.monotonic()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("learning tokens", total=training.steps, completed=training.done)
        while training.done < training.steps:
            try:
                loss = float(training.step().mean())
            except FloatingPointError as error:
                advice = "try a lower tokens.learning_rate, or diffusion.dtype: float32"
                raise UserError(f"tokens: {error}; {advice}") from error
            progress.update(task, completed=training.done, description=f"learning tokens, loss {loss:.4f}")
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                write_safetensors(checkpoint, training.state(), {})
                saved = time.monotonic()


def _entry(path: Path, root: Path) -> dict[str, str | float]:
    metadata = safetensors_metadata(path) or {}
    return {
        "path": path.absolute().relative_to(root.absolute()).as_posix(),
        "sha256": sha256_file(path),
        "token": metadata["token"],
        "fingerprint": metadata["fingerprint"],
        "final_loss": float(metadata["final_loss"]),
    }
