"""DreamBooth (arXiv 2208.12242) by LoRA: a rare word before the class's first word names it, and images that the model
itself makes of that first word keep its meaning (prior preservation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from partsynth.augmentation.concept import Lesson
from partsynth.augmentation.concepts.lora import Lora
from partsynth.config.generation import Tokens
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.model import StableDiffusion


class DreamBoothLora(Lora):
    """See the module."""

    name = "dreambooth_lora"

    def written(self, class_name: str, word: str, params: Tokens) -> str:
        return f"{params.lora.identifier} {word}"

    def prior(
        self, model: StableDiffusion, lesson: Lesson, word: str, latents: Tensor, known: dict[str, tuple[Tensor, str]]
    ) -> tuple[Tensor, str] | None:
        """Classes of one first word share it."""
        from partsynth.core.diffusion.concept_adapter import prior_latents
        from partsynth.core.diffusion.prompts import fill

        params = lesson.params
        if word not in known:
            prompt = fill(params.templates[0], "", word)
            seeds = [seed_from("prior", params.seed, word, i) for i in range(params.lora.prior_images)]
            known[word] = (prior_latents(model, prompt, seeds, latents.shape[1:]), prompt)
        return known[word]

    def _own(self, params: Tokens) -> Mapping[str, Any]:
        return params.lora.model_dump()


MEMBER = DreamBoothLora()
