"""Textual inversion (arXiv 2208.01618): vectors of one token per class, the model untouched; all classes at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from partsynth.augmentation.concept import Concept, Learned, Lesson
from partsynth.augmentation.learning import prepare, token_of, train
from partsynth.config.generation import Tokens
from partsynth.store.hashing import fingerprint
from partsynth.store.state import SavedState

if TYPE_CHECKING:
    from torch import Tensor

CURVE_POINTS = 20


class TextualInversion(Concept):
    """See the module; a file holds ``vectors`` (V, width), of two text encoders ``clip_l`` and ``clip_g``."""

    name = "textual_inversion"

    def written(self, class_name: str, word: str, params: Tokens) -> str:
        return token_of(class_name)

    def settings(self, word: str, params: Tokens) -> Any:
        fields = Tokens.model_fields
        alien = {key: fields[key].get_default(call_default_factory=True) for key in ("method", "lora")}
        return params.model_copy(update={"init_word": word, "init_words": {}} | alien)

    def learn(self, lesson: Lesson) -> Iterator[Learned]:
        identity = fingerprint([lesson.marks[name] for name in lesson.classes])
        state = SavedState(lesson.work / f"{identity}.safetensors", identity)
        training = prepare(lesson.params, lesson.diffusion, lesson.base, lesson.classes, lesson.words, lesson.root)
        train(training, state)
        vectors = training.result()
        for i, name in enumerate(lesson.classes):
            told = {"steps": str(lesson.params.steps), **_losses(training.losses[:, i])}
            yield Learned(name, training.model.prompts.as_tensors(vectors[token_of(name)]), told)
        state.delete()


def _losses(curve: Tensor) -> dict[str, str]:
    """The last tenth's mean of a class's losses (steps,), and means of CURVE_POINTS equal parts."""
    means = [round(float(part.mean()), 6) for part in curve.tensor_split(CURVE_POINTS) if len(part)]
    final = float(curve[-max(1, len(curve) // 10) :].mean())
    return {"final_loss": f"{final:.6f}", "loss_curve": json.dumps(means)}


MEMBER = TextualInversion()
