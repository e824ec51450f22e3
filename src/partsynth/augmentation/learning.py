"""Tokens learned by textual inversion on a class's training images."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageOps
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from partsynth.augmentation.base_model import Base, load_model
from partsynth.config.generation import Tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord
from partsynth.store.files import prune
from partsynth.store.hashing import seed_from
from partsynth.store.state import SavedState

if TYPE_CHECKING:
    from partsynth.core.diffusion.inversion import Inversion

CHECKPOINT_SECONDS = 10.0


def token_of(class_name: str) -> str:
    """How the class is written in prompts."""
    return f"<{class_name}>"


def first_words(params: Tokens, classes: Sequence[str]) -> dict[str, str]:
    """The word that each class starts from: the first pattern that matches decides.

    Raises
    ------
    UserError
        where a pattern of ``init_words`` matches no class.
    """
    for pattern in params.init_words:
        if not fnmatch.filter(classes, pattern):
            raise UserError(f"tokens.init_words: {pattern!r} matches no class; there are {', '.join(classes)}")
    return {
        name: next((w for p, w in params.init_words.items() if fnmatch.fnmatchcase(name, p)), params.init_word)
        for name in classes
    }


def prepare(
    params: Tokens,
    diffusion: Diffusion,
    base: Base,
    classes: Mapping[str, Sequence[RealRecord]],
    words: Mapping[str, str],
    root: Path,
) -> Inversion:
    """The joint training of the classes' tokens: images are read first (their faults cost no time), then the model.

    Parameters
    ----------
    base : from ``find_base``
    words : each class's first word

    Raises
    ------
    UserError
        where an image differs from its manifest, the model cannot be loaded, or it does not take a word or a prompt.
    """
    images = {name: [read_image(root, row) for row in rows] for name, rows in classes.items()}

    from partsynth.core.diffusion.images import to_tensor
    from partsynth.core.diffusion.inversion import Concept, Inversion
    from partsynth.core.diffusion.prompts import fill

    model = load_model(base, diffusion)
    concepts = []
    for name, rows in classes.items():
        own, token = images[name], token_of(name)
        prompts = [[fill(template, row.state, token) for template in params.templates] for row in rows]
        if params.flips:
            own, prompts = own + [ImageOps.mirror(image) for image in own], prompts * 2
        latents = model.encode(to_tensor(own, diffusion.size))  # (N, C, h, w)
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


def train(training: Inversion, state: SavedState) -> None:
    """Train to the end, from ``state`` where there is one; it is kept up to date, alone in its folder.

    Raises
    ------
    UserError
        where a loss is not finite.
    """
    prune(state.path.parent, [state.path])
    if (saved_state := state.load()) is not None:
        training.restore(saved_state)
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
                state.save(training.state())
                saved = time.monotonic()
