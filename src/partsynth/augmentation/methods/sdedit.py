"""SDEdit (arXiv 2108.01073) of training images under their class's learned token: noised to a strength, denoised again.

Images of one shape are edited in batches of one fixed size, which the row holds, as another shape rounds differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import Field, model_validator

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import TOKEN, Method, Order, Parent, base_parents, made_of
from partsynth.augmentation.tokens import Token, install
from partsynth.config.base import Fraction, unless
from partsynth.config.sets import StrengthSet
from partsynth.errors import UserError
from partsynth.records.rows import AugmentedRecord
from partsynth.store.hashing import fingerprint, seed_from
from partsynth.store.layout import TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.model import StableDiffusion


class SdeditSet(StrengthSet):
    """One augmentation set: edits of training images by SDEdit under their class's token.

    ``strength`` is of the noise schedule: 0 = the VAE's round trip alone, 1 = from pure noise.
    """

    method: Literal["sdedit"] = "sdedit"
    """How the set's images are made; it decides which other keys there are."""
    guidance: Annotated[float, Field(ge=0, le=50)] = 4.0
    """Classifier-free guidance scale; 0 and 1 = none, as in diffusers: the prompt alone."""
    states: list[str] = ["used", "rusty", "dirty", "broken", "brand new"]
    """State words, drawn by seed."""
    token_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sigma of the noise added to the token's vectors, relative to their size (DIAGen)."""
    masked: bool = False
    """As ``edit: part``."""
    edit: Annotated[Literal["all", "context", "part"], unless("all")] = "all"
    """Where images are edited, by the source's mask: everywhere; outside the part, which is kept; or the part alone."""
    feather: Annotated[float, Field(ge=0), unless(0.0)] = 0.0
    """Width of the soft edge of edit context and part, in pixels of the source (sigma); it lies on the edited side, so
    that what is kept is kept to the pixel. 0 = a hard edge."""
    restore: Fraction = 0.0
    """Share put back into the edit of the source's detail that the VAE loses (source minus its round trip); for low
    strengths, where detail still fits, unless restore_sigma is given too."""
    restore_sigma: Annotated[float | None, Field(ge=0), unless(None)] = None
    """Cut-off of restore, in pixels of the source: the share's fine detail, below it, comes from the source alone and
    only what is coarser from the edit, at the source's own size whatever the model's. null = at the model's size, with
    all that the edit drew."""

    @model_validator(mode="after")
    def _used(self) -> SdeditSet:
        if self.restore_sigma is not None and not self.restore:
            raise ValueError("restore_sigma is the cut-off of restore, which is 0: give restore a share, such as 1")
        if self.masked and self.edit == "context":
            raise ValueError("masked is edit: part, while edit is context")
        if self.feather and not self.masked and self.edit == "all":
            raise ValueError("feather is the edge of edit: context and edit: part, while edit is all")
        return self


class SdeditRecord(AugmentedRecord):
    """One image made by SDEdit: everything needed to make it again."""

    method: Literal["sdedit"] = "sdedit"
    prompt: str
    strength: float  # of the noise schedule, in [0, 1]
    guidance: float
    steps: int
    token_noise: float
    masked: bool
    restore: float = 0.0  # share of the source's detail, lost in the VAE, that was put back
    restore_sigma: float | None = None  # its cut-off in pixels of the source; None = put back at the model's size
    edit: Literal["all", "context", "part"] = "all"
    feather: float = 0.0  # sigma of the mask's edge, in pixels of the source
    token_sha256: str
    base_sha256: str
    batch_size: int = 32  # of the fixed-shape batch it was made in: another shape rounds differently
    dtype: str = "float32"  # the U-Net's

    @classmethod
    def columns(cls) -> list[str]:
        """As they were before there was a choice of methods: without ``method``, and in the order of that time."""
        first = ["path", "sha256", "class_name", "set_name", "source", "source_sha256", "source_group", "variant"]
        middle = ["prompt", "state", "seed", "strength", "guidance", "steps", "token_noise", "masked", "restore"]
        return [*first, *middle, "size", "token_sha256", "base_sha256", "batch_size", "dtype", "fingerprint"]

    @property
    def region(self) -> Literal["all", "context", "part"]:
        """What is edited; ``masked`` is the older word for the part."""
        return "part" if self.masked else self.edit

    @property
    def caption(self) -> str:
        return self.prompt


class Sdedit(Method[SdeditSet, SdeditRecord]):
    """See the module."""

    name = "sdedit"
    Parameters = SdeditSet
    Row = SdeditRecord

    def plan(self, order: Order[SdeditSet], materials: Materials) -> list[SdeditRecord]:
        """Variant i has the i-th of its class's strengths (in turn) and the i-th state in an order of its source's."""
        from partsynth.core.diffusion.prompts import fill

        params, shared, diffusion = order.parameters, order.shared, materials.diffusion
        tokens = materials.tokens(source.class_name for source in order.sources)
        states = params.states or [""]
        if params.token_noise and any(token.adapter is not None for token in tokens.values()):
            raise UserError(
                f"sets.{order.set_name}.token_noise displaces learned vectors, and tokens.method "
                f"{next(iter(tokens.values())).method} learns none: leave it at 0"
            )
        if params.masked or params.edit != "all":
            wanted = f"edit: {params.edit}" if params.edit != "all" else "masked: true"
            materials.check_masks(order.sources, f"sets.{order.set_name}.{wanted}")
        rows = []
        for source in order.sources:
            turns = sorted(
                states, key=lambda state: seed_from("state", shared.seed, order.set_name, source.sha256, state)
            )
            given, token = order.strengths[source.class_name], tokens[source.class_name]
            strengths = given if isinstance(given, list) else [given]
            for variant in range(params.variants):
                state = turns[variant % len(turns)]
                row = SdeditRecord(
                    **order.common(source, variant),
                    state=state,
                    size=diffusion.size,
                    prompt=fill(shared.template, state, token.name),
                    strength=strengths[variant % len(strengths)],
                    guidance=params.guidance,
                    steps=shared.steps,
                    token_noise=params.token_noise,
                    masked=params.masked,
                    restore=params.restore,
                    restore_sigma=params.restore_sigma,
                    edit=params.edit,
                    feather=params.feather,
                    token_sha256=token.sha256,
                    base_sha256=materials.base.identity,
                    batch_size=shared.batch_size,
                    dtype=diffusion.dtype,
                )
                rows.append(self.sealed(row, materials))
        return rows

    def paint(self, rows: Sequence[SdeditRecord], materials: Materials) -> Iterator[tuple[SdeditRecord, Image.Image]]:
        return _paint(rows, materials, mixed=False)

    def paint_probes(
        self, rows: Sequence[SdeditRecord], materials: Materials
    ) -> Iterator[tuple[SdeditRecord, Image.Image]]:
        """Several strengths share a batch: probes of many strengths, few images each, fill it."""
        return _paint(rows, materials, mixed=True)

    def parents(self, row: SdeditRecord) -> list[Parent]:
        token = Parent(TOKEN, f"{TOKENS}/{row.class_name}.safetensors", row.token_sha256)
        return [*super().parents(row), token, *base_parents(row.base_sha256)]

    def summary(self, rows: Sequence[SdeditRecord]) -> str:
        values = sorted({row.strength for row in rows})
        shown = ", ".join(f"{v:g}" for v in values) if len(values) <= 4 else f"{values[0]:g} to {values[-1]:g}"
        return f"strength {shown}" if values else "empty"

    def fingerprint(self, row: SdeditRecord, materials: Materials) -> str:
        younger = set(self.Row.model_fields) - set(self.Row.columns())  # images without them keep their fingerprint
        decisive = {
            column: value
            for column, value in made_of(row).items()
            if column not in younger or value != self.Row.model_fields[column].default
        }
        return fingerprint([self.version, decisive, materials.mask_sha256(row.source) if row.region != "all" else ""])


def _paint(
    rows: Sequence[SdeditRecord], materials: Materials, mixed: bool
) -> Iterator[tuple[SdeditRecord, Image.Image]]:
    import torch

    from partsynth.core.diffusion.images import feathered, inverted, latent_mask, paste, to_images, to_pixels, to_tensor
    from partsynth.core.diffusion.lora import switch
    from partsynth.core.diffusion.restore import restored

    model, tokens = materials.model(rows[0].dtype), materials.tokens(row.class_name for row in rows)
    vectors = install(model, tokens)
    latents: dict[str, Tensor] = {}  # source -> (C, h, w)
    trips: dict[str, Tensor] = {}  # source -> its round trip through the VAE (3, S, S)
    lost: dict[str, Tensor] = {}  # source -> what that lacks (3, S, S)
    for batch, count in _batches(rows, mixed, {name: token.adapter or "" for name, token in tokens.items()}):
        first = batch[0]
        switch(model.unet, tokens[first.class_name].adapter)
        unseen = list(dict.fromkeys(row.source for row in batch if row.source not in latents))
        if unseen:
            pixels = to_tensor([materials.source(name) for name in unseen], first.size)  # (U, 3, S, S)
            encoded = model.encode(pixels)  # (U, C, h, w)
            latents |= zip(unseen, encoded, strict=True)
            if any(row.restore for row in rows):
                decoded = model.decode(encoded).cpu()  # (U, 3, S, S)
                trips |= zip(unseen, decoded, strict=True)
                lost |= zip(unseen, pixels - decoded, strict=True)
        masks = [materials.mask(row.source) for row in batch] if first.region != "all" else []
        places = masks if first.region == "part" else [inverted(mask) for mask in masks]  # white where edited
        seen = [latent_mask(place, first.size, model.factor) for place in places]
        try:
            edited = model.sdedit(
                torch.stack([latents[row.source] for row in batch]),  # (B, C, h, w)
                torch.stack([_context(model, row, tokens[row.class_name], vectors) for row in batch]),  # (B, L, D)
                [row.seed for row in batch],
                [row.strength for row in batch] if mixed else first.strength,
                first.guidance,
                first.steps,
                torch.stack(seen).to(model.device) if seen else None,  # (B, 1, h, w)
            )
        except FloatingPointError as error:
            raise UserError(f"generate: {error}; try diffusion.dtype: float32 (or bfloat16 on a GPU)") from error
        decoded = model.decode(edited[:count]).cpu()  # (n, 3, S, S)
        for i, (row, edit) in enumerate(zip(batch, decoded, strict=False)):
            original = materials.source(row.source)
            if row.restore_sigma is not None:
                own = to_pixels(original)  # (3, H, W)
                edit = restored(edit, trips[row.source], own, row.restore, row.restore_sigma)
            elif row.restore:
                edit = edit + row.restore * lost[row.source]
            image = to_images(edit[None])[0]
            if image.size != original.size:
                image = image.resize(original.size, Image.Resampling.LANCZOS)
            yield row, paste(image, original, feathered(places[i], row.feather)) if places else image


def _batches(
    rows: Sequence[SdeditRecord], mixed: bool, adapters: Mapping[str, str]
) -> Iterator[tuple[list[SdeditRecord], int]]:
    """Rows that can share a batch, in batches of the rows' own size (the last padded), and how many count.

    ``adapters``: each class's, by name; "" where its images are made without one, in batches with other classes.
    """
    from partsynth.core.diffusion.images import padded

    alike: dict[Any, list[SdeditRecord]] = defaultdict(list)
    # of alike strength in a batch: it lasts as long as its longest edit
    for row in sorted(rows, key=lambda row: row.strength) if mixed else rows:
        strength = 0.0 if mixed else row.strength
        key = (strength, row.guidance, row.steps, row.region, row.restore, row.size, row.batch_size)
        alike[adapters[row.class_name], *key].append(row)
    for key in sorted(alike):
        for indices, count in padded(len(alike[key]), key[-1]):
            yield [alike[key][i] for i in indices], count


def _context(model: StableDiffusion, row: SdeditRecord, token: Token, vectors: Mapping[str, Tensor]) -> Tensor:
    """The prompt's context (L, D); under token noise, of vectors displaced by sigma x their root mean square.

    DIAGen (arXiv 2408.14584) adds an absolute sigma; relative to the vectors' size it means the same in every model.
    """
    try:
        if row.token_noise == 0:
            return model.prompts.embed(row.prompt)
        import torch

        generator = torch.Generator().manual_seed(seed_from("token noise", row.seed))
        plain = vectors[token.name]  # (V, width)
        noise = torch.randn(plain.shape, generator=generator) * plain.square().mean().sqrt()
        return model.prompts.embed(row.prompt, {token.name: plain + row.token_noise * noise})
    except ValueError as error:
        raise UserError(f"generate.template: {error}") from error


MEMBER = Sdedit()
