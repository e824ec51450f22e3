"""SDEdit (arXiv 2108.01073) of training images under their class's learned token: noised to a strength, denoised again.

Images of one shape are edited in batches of one fixed size, which the row holds, as another shape rounds differently.

For images that are none of their class (``concept``): a phrase stands in the token's place, or its vectors are mixed
with a sibling's. Their ground, light and colour can be those of the same source's edit under its own token
(``match_sigma``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import TOKEN, Method, Order, Parent, base_parents, made_of
from partsynth.augmentation.relatives import phrases_by_class, place, siblings_by_class, turns
from partsynth.augmentation.sdedit_set import SdeditRecord, SdeditSet
from partsynth.augmentation.tokens import Token, install
from partsynth.errors import UserError
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import fingerprint, seed_from
from partsynth.store.layout import TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.model import StableDiffusion

COMPILERS = ("torch._dynamo", "torch._inductor")  # modules of their errors, too slow to import for that


class Sdedit(Method[SdeditSet, SdeditRecord]):
    """See the module."""

    name = "sdedit"
    Parameters = SdeditSet
    Row = SdeditRecord

    def plan(self, order: Order[SdeditSet], materials: Materials) -> list[SdeditRecord]:
        """Variant i has the i-th of its class's strengths (in turn) and the i-th state in an order of its source's."""
        params, shared, diffusion = order.parameters, order.shared, materials.diffusion
        classes = sorted({source.class_name for source in order.sources})
        concepts = _Concepts(order, materials, classes)
        states = params.states or [""]
        if params.masked or params.edit != "all":
            wanted = f"edit: {params.edit}" if params.edit != "all" else "masked: true"
            materials.check_masks(order.sources, f"sets.{order.set_name}.{wanted}")
        rows = []
        for source in order.sources:
            in_turn = turns(states, "state", shared.seed, order.set_name, source.sha256)
            given, told = order.strengths[source.class_name], concepts.told(source, len(states))
            strengths = given if isinstance(given, list) else [given]
            for variant in range(params.variants):
                state = in_turn[variant % len(in_turn)]
                row = SdeditRecord(
                    **order.common(source, variant),
                    state=state,
                    size=diffusion.size,
                    strength=strengths[variant % len(strengths)],
                    guidance=params.guidance,
                    steps=shared.steps,
                    token_noise=params.token_noise,
                    masked=params.masked,
                    restore=params.restore,
                    restore_sigma=params.restore_sigma,
                    edit=params.edit,
                    feather=params.feather,
                    base_sha256=materials.base.identity,
                    batch_size=shared.batch_size,
                    dtype=diffusion.dtype,
                    compiled=diffusion.compile,
                    **told(state, variant),
                )
                rows.append(self.sealed(row, materials))
        return rows

    def paint(self, rows: Sequence[SdeditRecord], materials: Materials) -> Iterator[tuple[SdeditRecord, Image.Image]]:
        return _paint(rows, materials, mixed=False)

    def together(self, rows: Sequence[SdeditRecord], materials: Materials) -> list[list[SdeditRecord]]:
        ordered = sorted(rows, key=lambda row: row.path)
        return [
            batch[:count]
            for batch, count in _batches(ordered, mixed=False, adapters=_adapters(_tokens_of(rows, materials)))
        ]

    def paint_probes(
        self, rows: Sequence[SdeditRecord], materials: Materials
    ) -> Iterator[tuple[SdeditRecord, Image.Image]]:
        """Several strengths share a batch: probes of many strengths, few images each, fill it."""
        return _paint(rows, materials, mixed=True)

    def parents(self, row: SdeditRecord) -> list[Parent]:
        parents = super().parents(row)
        if row.token_sha256:
            parents.append(Parent(TOKEN, _token_path(row.class_name), row.token_sha256))
        if row.sibling:
            parents.append(Parent(TOKEN, _token_path(row.sibling), row.sibling_sha256, class_name=row.sibling))
        return [*parents, *base_parents(row.base_sha256)]

    def summary(self, rows: Sequence[SdeditRecord]) -> str:
        values = sorted({row.strength for row in rows})
        shown = ", ".join(f"{v:g}" for v in values) if len(values) <= 4 else f"{values[0]:g} to {values[-1]:g}"
        concepts = {"token": "", "words": ", in other words", "siblings": ", with siblings' vectors"}
        matched = ", matched" if any(row.match_sigma for row in rows) else ""
        return f"strength {shown}{concepts[rows[0].concept]}{matched}" if values else "empty"

    def limitation(self, rows: Sequence[SdeditRecord]) -> str:
        if all(row.concept == "token" for row in rows):
            return super().limitation(rows)
        return (
            "Images may show parts that do not exist: training images edited under other words, or with another "
            "class's vectors. Their class is that of the training image, which they need not show."
        )

    def fingerprint(self, row: SdeditRecord, materials: Materials) -> str:
        younger = set(self.Row.model_fields) - set(self.Row.columns())  # images without them keep their fingerprint
        decisive = {
            column: value
            for column, value in made_of(row).items()
            if column not in younger or value != self.Row.model_fields[column].default
        }
        return fingerprint([self.version, decisive, materials.mask_sha256(row.source) if row.region != "all" else ""])


class _Concepts:
    """What a set's prompts hold for each class, and what they are taken from.

    Raises
    ------
    UserError
        where a class has no phrase, sibling or token, or its token no vectors and they are wanted.
    """

    def __init__(self, order: Order[SdeditSet], materials: Materials, classes: Sequence[str]) -> None:
        self._order, params, where = order, order.parameters, f"sets.{order.set_name}"
        words, named = params.concept == "words", params.concept == "siblings"
        every, key = materials.classes, f"{where}.{params.concept}"
        self._phrases = phrases_by_class(params.words, classes, every, key) if words else {}
        self._siblings = siblings_by_class(params.siblings, classes, every, key) if named else {}
        self._tokens: dict[str, Token] = {}
        if not words or params.match_sigma is not None:
            others = {other for siblings in self._siblings.values() for other in siblings}
            self._tokens = materials.tokens({*classes, *others})
        learned = next((token.method for token in self._tokens.values() if token.adapter is not None), None)
        if learned is not None and materials.diffusion.compile:
            raise UserError(
                f"diffusion.compile: with tokens.method {learned} each class is another network, compiled anew: "
                "set it to false"
            )
        if learned is not None and (params.token_noise or named):
            wanted = "concept: siblings mixes" if named else "token_noise displaces"
            remedy = "use concept: words" if named else "leave it at 0"
            raise UserError(f"{where}.{wanted} learned vectors, and tokens.method {learned} learns none: {remedy}")

    def told(self, source: RealRecord, states: int) -> Callable[[str, int], dict[str, Any]]:
        """Of a state and a variant of the source, the columns of its row; ``states``: how many take turns."""
        from partsynth.core.diffusion.prompts import fill

        params, shared, name = self._order.parameters, self._order.shared, source.class_name
        identity = (shared.seed, self._order.set_name, source.sha256)
        phrases = turns(self._phrases.get(name, ()), "phrase", *identity)
        siblings = turns(self._siblings.get(name, ()), "sibling", *identity)
        token = self._tokens.get(name)

        def columns(state: str, variant: int) -> dict[str, Any]:
            own = "" if token is None else fill(shared.template, state, token.name)
            worn = source.state if params.match_state == "source" else state
            found: dict[str, Any] = {
                "concept": params.concept,
                "prompt": own,
                "token_sha256": "" if token is None else token.sha256,
            }
            if phrases:
                phrase = phrases[place(variant, len(phrases), states)]
                found["prompt"] = fill(shared.template, worn, phrase)
            if siblings:
                other = siblings[place(variant, len(siblings), states)]
                if token is not None:
                    found["prompt"] = fill(shared.template, worn, token.name)
                found |= {"sibling": other, "sibling_sha256": self._tokens[other].sha256, "mix": params.mix}
            if params.match_sigma is not None:
                found |= {"match_sigma": params.match_sigma, "match_prompt": own}
            return found

        return columns


def _token_path(class_name: str) -> str:
    return f"{TOKENS}/{class_name}.safetensors"


def _paint(
    rows: Sequence[SdeditRecord], materials: Materials, mixed: bool
) -> Iterator[tuple[SdeditRecord, Image.Image]]:
    from partsynth.core.diffusion.images import feathered, inverted, latent_mask, paste, to_images, to_pixels, to_tensor
    from partsynth.core.diffusion.restore import grained, matched, restored

    model, tokens = materials.model(rows[0].dtype, rows[0].compiled), _tokens_of(rows, materials)
    vectors = install(model, tokens)
    for batch, count in _batches(rows, mixed, _adapters(tokens)):
        first = batch[0]
        names = list(dict.fromkeys(row.source for row in batch))  # the batch's own alone: see ``together``
        pixels = to_tensor([materials.source(name) for name in names], first.size)  # (U, 3, S, S)
        encoded = model.encode(pixels)  # (U, C, h, w)
        latents = dict(zip(names, encoded, strict=True))
        trips: dict[str, Tensor] = {}  # source -> its round trip through the VAE (3, S, S)
        lost: dict[str, Tensor] = {}  # source -> what that lacks (3, S, S)
        if any(row.restore or row.match_sigma for row in batch):
            round_trips = model.decode(encoded).cpu()  # (U, 3, S, S)
            trips = dict(zip(names, round_trips, strict=True))
            lost = dict(zip(names, pixels - round_trips, strict=True))
        masks = [materials.mask(row.source) for row in batch] if first.region != "all" else []
        places = masks if first.region == "part" else [inverted(mask) for mask in masks]  # white where edited
        seen = [latent_mask(place, first.size, model.factor) for place in places]
        edit_batch = partial(_edited, model, batch, count, [latents[row.source] for row in batch], seen, mixed)
        own = tokens[first.class_name].adapter if first.token_sha256 else None
        others: Tensor | None = None  # the same under the classes' own tokens (n, 3, S, S)
        try:
            contexts = [_context(model, row, tokens, vectors) for row in batch]
            decoded = edit_batch(contexts, None if first.concept == "words" else own)
            if first.match_sigma is not None:
                others = edit_batch([_embedded(model, row.match_prompt) for row in batch], own)
        except FloatingPointError as error:
            raise UserError(f"generate: {error}; try diffusion.dtype: float32 (or bfloat16 on a GPU)") from error
        except RuntimeError as error:
            if not type(error).__module__.startswith(COMPILERS):
                raise
            told = str(error).strip().splitlines()[0]
            raise UserError(f"diffusion.compile: no U-Net can be compiled here ({told}): set it to false") from error
        for i, (row, edit) in enumerate(zip(batch, decoded, strict=False)):
            original = materials.source(row.source)
            if others is not None and row.match_sigma is not None:
                whole, trip = to_pixels(original), trips[row.source]  # (3, H, W)
                form = grained(edit, trip, whole, row.restore)
                light = restored(others[i], trip, whole, row.restore, row.restore_sigma or 0.0)
                edit = matched(form, light, whole, row.match_sigma)
            elif row.restore_sigma is not None:
                edit = restored(edit, trips[row.source], to_pixels(original), row.restore, row.restore_sigma)
            elif row.restore:
                edit = edit + row.restore * lost[row.source]
            image = to_images(edit[None])[0]
            if image.size != original.size:
                image = image.resize(original.size, Image.Resampling.LANCZOS)
            yield row, paste(image, original, feathered(places[i], row.feather)) if places else image


def _edited(
    model: StableDiffusion,
    batch: Sequence[SdeditRecord],
    count: int,
    latents: Sequence[Tensor],
    masks: Sequence[Tensor],
    mixed: bool,
    contexts: Sequence[Tensor],
    adapter: str | None,
) -> Tensor:
    """A batch's sources, of latents (C, h, w), edited under contexts (L, D): the first ``count`` images (n, 3, S, S).

    ``mixed``: each at its own strength; ``adapter`` of the U-Net, None = without one.
    """
    import torch

    from partsynth.core.diffusion.lora import switch

    first = batch[0]
    switch(model.unet, adapter)
    edited = model.sdedit(
        torch.stack(list(latents)),  # (B, C, h, w)
        torch.stack(list(contexts)),  # (B, L, D)
        [row.seed for row in batch],
        [row.strength for row in batch] if mixed else first.strength,
        first.guidance,
        first.steps,
        torch.stack(list(masks)).to(model.device) if masks else None,  # (B, 1, h, w)
    )
    return model.decode(edited[:count]).cpu()


def _tokens_of(rows: Sequence[SdeditRecord], materials: Materials) -> dict[str, Token]:
    """Class -> its token, of all that the rows' prompts hold; also siblings'."""
    own = {row.class_name for row in rows if row.token_sha256}
    return materials.tokens(own | {row.sibling for row in rows if row.sibling})


def _adapters(tokens: Mapping[str, Token]) -> dict[str, str]:
    """Class -> the name of its adapter, "" where its images are made without one."""
    return {name: token.adapter or "" for name, token in tokens.items()}


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
        kind = (row.concept, row.match_sigma or 0.0, bool(row.token_sha256))
        key = (strength, row.guidance, row.steps, row.region, row.restore, *kind, row.size, row.batch_size)
        alike[adapters.get(row.class_name, ""), *key].append(row)
    for key in sorted(alike):
        for indices, count in padded(len(alike[key]), key[-1]):
            yield [alike[key][i] for i in indices], count


def _context(
    model: StableDiffusion, row: SdeditRecord, tokens: Mapping[str, Token], vectors: Mapping[str, Tensor]
) -> Tensor:
    """The prompt's context (L, D), the class's vectors (V, width) mixed with its sibling's; under token noise displaced
    by sigma x their root mean square.

    DIAGen (arXiv 2408.14584) adds an absolute sigma; relative to the vectors' size it means the same in every model.
    """
    if not row.sibling and row.token_noise == 0:
        words = row.concept == "words"
        return _embedded(model, row.prompt, key=f"sets.{row.set_name}.words" if words else "generate.template")
    import torch

    name = tokens[row.class_name].name
    plain = vectors[name]  # (V, width)
    if row.sibling:
        other = vectors[tokens[row.sibling].name]
        if other.shape != plain.shape:
            told = f"the tokens of {row.class_name} and {row.sibling} have {len(plain)} and {len(other)} vectors"
            raise UserError(f"sets.{row.set_name}.siblings: {told} and cannot be mixed: dvc repro tokens")
        plain = (1 - row.mix) * plain + row.mix * other
    if row.token_noise:
        generator = torch.Generator().manual_seed(seed_from("token noise", row.seed))
        noise = torch.randn(plain.shape, generator=generator) * plain.square().mean().sqrt()
        plain = plain + row.token_noise * noise
    return _embedded(model, row.prompt, {name: plain})


def _embedded(
    model: StableDiffusion, prompt: str, vectors: Mapping[str, Tensor] | None = None, key: str = "generate.template"
) -> Tensor:
    """The context (L, D) of a prompt. Raises UserError where the model does not take it, naming ``key``."""
    try:
        return model.prompts.embed(prompt, vectors)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error


MEMBER = Sdedit()
