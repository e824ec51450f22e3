"""LoRA (arXiv 2106.09685): each class a low-rank adapter of the U-Net, which prompts call by the class's first word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from partsynth.augmentation.base_model import load_model
from partsynth.augmentation.concept import Concept, Learned, Lesson
from partsynth.config.generation import Tokens
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.store.files import prune
from partsynth.store.hashing import seed_from
from partsynth.store.state import SavedState

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.concept_adapter import AdapterSettings
    from partsynth.core.diffusion.model import StableDiffusion

PREFIX = "unet."  # of the tensors' names, as diffusers' ``load_lora_weights`` wants them
EVERY = 50  # steps between two saved states


class Lora(Concept):
    """See the module; a file holds the adapter as diffusers' ``load_lora_weights`` reads it."""

    name = "lora"

    def written(self, class_name: str, word: str, params: Tokens) -> str:
        return word

    def settings(self, word: str, params: Tokens) -> Any:
        shared = {"word": word, "flips": params.flips, "templates": params.templates, "seed": params.seed}
        return {"method": self.name, **shared, **self._own(params)}

    def learn(self, lesson: Lesson) -> Iterator[Learned]:
        images = {name: [read_image(lesson.root, row) for row in rows] for name, rows in lesson.classes.items()}

        from partsynth.core.diffusion.concept_adapter import learn_adapter

        # adapters are learned in full precision whatever the edits' is
        model = load_model(lesson.base, lesson.diffusion.model_copy(update={"dtype": "float32"}))
        priors: dict[str, tuple[Tensor, str]] = {}
        for name in lesson.classes:
            mark = lesson.marks[name]
            state = SavedState(lesson.work / f"{mark}.safetensors", mark)
            prune(lesson.work, [state.path])
            try:
                latents, prompts = _examples(
                    model, lesson, name, images[name], self.written(name, lesson.words[name], lesson.params)
                )
                prior = self.prior(model, lesson, lesson.words[name], latents, priors)
                settings = self._adapter(lesson.params, seed_from("tokens", lesson.params.seed, name))
                weights, before, after = learn_adapter(
                    model, latents, prompts, settings, state, _told(name, settings.steps), prior
                )
            except (ValueError, FloatingPointError) as error:
                raise UserError(f"tokens: {error}") from error
            print(f"tokens: {name}, denoising error {before:.4f} -> {after:.4f}", flush=True)
            told = {"steps": str(settings.steps), "first_loss": f"{before:.6f}", "final_loss": f"{after:.6f}"}
            yield Learned(name, {f"{PREFIX}{key}": value for key, value in weights.items()}, told)
            state.delete()

    def prior(
        self, model: StableDiffusion, lesson: Lesson, word: str, latents: Tensor, known: dict[str, tuple[Tensor, str]]
    ) -> tuple[Tensor, str] | None:
        """What the model makes of the class's kind by itself, and from which prompt; None here."""
        return None

    def _own(self, params: Tokens) -> Mapping[str, Any]:
        """The settings that decide."""
        return params.lora.model_dump(include={"rank", "layers", "steps", "batch_size", "learning_rate"})

    def _adapter(self, params: Tokens, seed: int) -> AdapterSettings:
        from partsynth.core.diffusion.concept_adapter import AdapterSettings
        from partsynth.core.diffusion.lora import ATTENTION, EVERYWHERE

        lora = params.lora
        return AdapterSettings(
            rank=lora.rank,
            targets=ATTENTION if lora.layers == "attention" else EVERYWHERE,
            steps=lora.steps,
            batch_size=lora.batch_size,
            learning_rate=lora.learning_rate,
            every=EVERY,
            seed=seed,
            prior_weight=lora.prior_weight,
        )


def _examples(
    model: StableDiffusion, lesson: Lesson, name: str, images: list[Image.Image], token: str
) -> tuple[Tensor, list[list[str]]]:
    """A class's latents, mirrored ones too where wanted, and their prompts."""
    from partsynth.core.diffusion.images import to_tensor
    from partsynth.core.diffusion.prompts import fill

    params = lesson.params
    prompts = [[fill(template, row.state, token) for template in params.templates] for row in lesson.classes[name]]
    if params.flips:
        images, prompts = images + [ImageOps.mirror(image) for image in images], prompts * 2
    return model.encode(to_tensor(images, lesson.diffusion.size)), prompts


def _told(name: str, steps: int) -> Any:
    def log(step: int, values: dict[str, float]) -> None:
        text = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
        print(f"tokens: {name}, step {step} of {steps}: {text}", flush=True)

    return log


MEMBER = Lora()
