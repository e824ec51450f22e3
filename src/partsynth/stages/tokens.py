"""Stage ``tokens``: each class learned from its training images, by textual inversion or as ``tokens.method`` says."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from partsynth.augmentation.base_model import find_base
from partsynth.augmentation.concept import Concept, Lesson
from partsynth.augmentation.learning import first_words
from partsynth.augmentation.tokens import DEFAULT_METHOD
from partsynth.config.generation import Tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.seams import CONCEPTS
from partsynth.store import workers
from partsynth.store.files import prune, read_json, write_json
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.tensors import safetensors_metadata, write_safetensors


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

    A file holds the method's tensors and, as metadata, what it was learned from and how prompts write the class;
    diffusers' ``load_textual_inversion(file, token=...)`` or ``load_lora_weights(file)`` reads it. Several processes
    deal the classes out among them, and the first writes the manifest when all are learned. A class whose
    images, parameters and base model are unchanged keeps its file, so one more class is learned alone. A killed run
    goes on from its last checkpoint in ``root/.work/tokens`` and ends with the same bytes.

    Raises
    ------
    UserError
        where there are no training images, one differs from its manifest, a pattern of ``init_words`` matches no
        class, the base model cannot be loaded, or its tokenizer does not know a word or cannot hold a prompt.
    """
    params, diffusion, out, layout = inputs.params, inputs.diffusion, inputs.out, Layout(inputs.root)
    here, work = workers.here(), layout.work / "tokens"
    recorded = _recorded(out / "manifest.json")
    model = find_base(diffusion, inputs.root)
    base = model.identity
    classes = _training_images(inputs.real / MANIFEST)
    words = first_words(params, list(classes))
    concept: Concept = CONCEPTS[params.method]
    marks = {name: concept.mark(name, words[name], rows, params, diffusion, base) for name, rows in classes.items()}
    files = {name: out / f"{name}.safetensors" for name in classes}
    stale = [name for name, file in files.items() if not _is_current(file, marks[name], recorded.get(name))]
    print(f"tokens: {len(classes)} classes, {len(classes) - len(stale)} of them kept")
    others = [name for name in stale if (safetensors_metadata(files[name]) or {}).get("base_sha256", base) != base]
    if others and here.first:
        print(f"tokens: {len(others)} learned anew: {model.location} is not the base model they were learned with")
    here.barrier()  # all have seen which are stale, before one of them is learned
    (out / "manifest.json").unlink(missing_ok=True)
    dealt = here.dealt(list(classes))  # by all classes: a killed process finds its own again
    if own := [name for name in stale if name in dealt]:
        lesson = Lesson(
            params=params,
            diffusion=diffusion,
            base=model,
            classes={name: classes[name] for name in own},
            words=words,
            marks=marks,
            work=work if here.count == 1 else work / f"{here.rank}-of-{here.count}",
            root=inputs.root,
        )
        for learned in concept.learn(lesson):
            name = learned.class_name
            metadata = {
                "class_name": name,
                "token": concept.written(name, words[name], params),
                "fingerprint": marks[name],
                "base_sha256": base,
                "sources": json.dumps([[r.path, r.sha256] for r in classes[name]]),
                "init_word": words[name],
                "seed": str(params.seed),
                **learned.told,
                **({"method": concept.name} if concept.name != DEFAULT_METHOD else {}),
            }
            write_safetensors(files[name], learned.tensors, metadata)
    here.barrier()
    if not here.first:
        return
    if stale:
        shutil.rmtree(work, ignore_errors=True)
    prune(out, files.values())
    write_json(out / "manifest.json", {"base_sha256": base, "tokens": {n: _entry(p, layout) for n, p in files.items()}})


def _recorded(manifest: Path) -> dict[str, str]:
    """Class -> sha256 of its file when the stage last ended; empty where it did not, or told it otherwise."""
    with contextlib.suppress(UserError, FileNotFoundError, KeyError, TypeError, AttributeError):
        return {name: entry["sha256"] for name, entry in read_json(manifest)["tokens"].items()}
    return {}


def _is_current(file: Path, mark: str, sha256: str | None) -> bool:
    """Whether it was learned from what there is now, and has not been changed since."""
    found = (safetensors_metadata(file) or {}).get("fingerprint")
    return found == mark and (sha256 is None or sha256_file(file) == sha256)


def _training_images(manifest: Path) -> dict[str, list[RealRecord]]:
    classes: dict[str, list[RealRecord]] = defaultdict(list)
    for row in read_manifest(manifest, RealRecord):
        if row.split == "train" and row.role == "target":
            classes[row.class_name].append(row)
    if not classes:
        raise UserError(f"{manifest} has no training images to learn tokens from")
    return {name: sorted(classes[name], key=lambda row: row.path) for name in sorted(classes)}


def _entry(path: Path, layout: Layout) -> dict[str, str | float]:
    metadata = safetensors_metadata(path) or {}
    return {
        "path": layout.relative(path),
        "sha256": sha256_file(path),
        "token": metadata["token"],
        "fingerprint": metadata["fingerprint"],
        "final_loss": float(metadata["final_loss"]),
    }
