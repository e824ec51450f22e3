"""Edits of training pictures by SDEdit under their class's token: planned as manifest rows, painted from rows alone.

The stages generate and calibrate edit alike because both edit with this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from partsynth.config.generation import AugmentationSet, Diffusion, Generate
from partsynth.errors import UserError
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store.files import inside
from partsynth.store.hashing import fingerprint, seed_from, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.model import StableDiffusion
from partsynth.augmentation.sources import check_masks, read_mask, read_source
from partsynth.augmentation.tokens import Token, install

VERSION = 1  # raise it when the same row gives another picture


def plan(
    params: Generate,
    diffusion: Diffusion,
    augmentation: AugmentationSet,
    set_name: str,
    sources: Sequence[RealRecord],
    tokens: Mapping[str, Token],
    strengths: Mapping[str, float | list[float]],
    base: str,
    folder: str,
    root: Path,
) -> list[AugmentedRecord]:
    """The set's manifest rows, their ``sha256`` still empty.

    Variant i uses the i-th of its class's strengths (in turn) and the i-th state of an order drawn for its source alone.
    """
    states = augmentation.states or [""]
    if augmentation.masked:
        check_masks(sources, set_name, root)
    from partsynth.core.diffusion.images import fill

    rows = []
    for source in sources:
        order = sorted(states, key=lambda state: seed_from("state", params.seed, set_name, source.sha256, state))
        several = strengths[source.class_name]
        several = several if isinstance(several, list) else [several]
        for variant in range(augmentation.variants):
            state, token = order[variant % len(order)], tokens[source.class_name]
            row = AugmentedRecord(
                path=f"{folder}/{source.class_name}/{Path(source.path).stem}-v{variant}.png",
                sha256="",
                class_name=source.class_name,
                set_name=set_name,
                source=source.path,
                source_sha256=source.sha256,
                source_group=source.group,
                variant=variant,
                prompt=fill(params.template, state, token.name),
                state=state,
                seed=seed_from("generate", params.seed, set_name, source.sha256, variant),
                strength=several[variant % len(several)],
                guidance=augmentation.guidance,
                steps=params.steps,
                token_noise=augmentation.token_noise,
                masked=augmentation.masked,
                restore=augmentation.restore,
                size=diffusion.size,
                token_sha256=token.sha256,
                base_sha256=base,
                batch_size=params.batch_size,
                dtype=diffusion.dtype,
                fingerprint="",
            )
            rows.append(row.model_copy(update={"fingerprint": mark(row, source, root)}))
    return rows


def paint(
    model: StableDiffusion,
    rows: Sequence[AugmentedRecord],
    sources: Mapping[str, RealRecord],
    tokens: Mapping[str, Token],
    root: Path,
    mixed: bool = False,
) -> Iterator[tuple[AugmentedRecord, Image.Image]]:
    """Make the rows' pictures, each of its source's size. A picture's bytes depend on its row alone.

    ``mixed`` lets several strengths share a batch: probes of many strengths, few pictures each, fill it.

    Raises
    ------
    UserError
        where a source is not a training picture or differs from its manifest, or the U-Net breaks down in its dtype.
    """
    import torch

    from partsynth.core.diffusion.images import latent_mask, paste, to_pictures, to_tensor

    vectors = install(model, {row.class_name for row in rows}, tokens)
    latents: dict[str, Tensor] = {}
    lost: dict[str, Tensor] = {}  # source -> what its round trip through the VAE lacks (3, S, S)
    for batch, count in _batches(rows, mixed):
        first = batch[0]
        unseen = {row.source: None for row in batch if row.source not in latents}
        if unseen:
            pictures = [read_source(sources, name, root) for name in unseen]
            images = to_tensor(pictures, first.size)
            encoded = model.encode(images)
            latents |= zip(unseen, encoded, strict=True)
            if any(row.restore for row in rows):
                lost |= zip(unseen, images - model.decode(encoded).cpu(), strict=True)
        masks = None
        if first.masked:
            opened = [read_mask(sources[row.source], root) for row in batch]
            masks = torch.stack([latent_mask(m, first.size, model.factor) for m in opened]).to(model.device)
        try:
            edited = model.sdedit(
                torch.stack([latents[row.source] for row in batch]),
                torch.stack([_context(model, row, tokens[row.class_name].name, vectors) for row in batch]),
                [row.seed for row in batch],
                [row.strength for row in batch] if mixed else first.strength,
                first.guidance,
                first.steps,
                masks,
            )
        except FloatingPointError as error:
            raise UserError(f"generate: {error}; try diffusion.dtype: float32 (or bfloat16 on a GPU)") from error
        decoded = model.decode(edited[:count]).cpu()
        if first.restore:
            decoded = decoded + first.restore * torch.stack([lost[row.source] for row in batch[:count]])
        made = to_pictures(decoded)
        for i, (row, picture) in enumerate(zip(batch, made, strict=False)):
            original = read_source(sources, row.source, root)
            if picture.size != original.size:
                picture = picture.resize(original.size, Image.Resampling.LANCZOS)
            if row.masked:
                picture = paste(picture, original, opened[i])
            yield row, picture


def mark(row: AugmentedRecord, source: RealRecord, root: Path) -> str:
    made_of = row.model_dump(exclude={"path", "sha256", "set_name", "source", "source_group", "variant", "fingerprint"})
    return fingerprint([VERSION, made_of, sha256_file(inside(root, source.mask)) if row.masked else ""])


def load_model(location: str, diffusion: Diffusion) -> StableDiffusion:
    from partsynth.core.diffusion.model import load

    try:
        return load(location, diffusion.revision, diffusion.device, diffusion.dtype)
    except (ValueError, OSError) as error:
        raise UserError(f"diffusion.model: {error}") from error


def _batches(rows: Sequence[AugmentedRecord], mixed: bool) -> Iterator[tuple[list[AugmentedRecord], int]]:
    """Rows that can share a batch, in batches of the rows' own size (the last padded), and how many count."""
    from partsynth.core.diffusion.images import padded

    alike: dict[Any, list[AugmentedRecord]] = defaultdict(list)
    # of alike strength in a batch: it lasts as long as its longest edit
    for row in sorted(rows, key=lambda row: row.strength) if mixed else rows:
        strength = 0.0 if mixed else row.strength
        alike[strength, row.guidance, row.steps, row.masked, row.restore, row.size, row.batch_size].append(row)
    for key in sorted(alike):
        for indices, count in padded(len(alike[key]), key[-1]):
            yield [alike[key][i] for i in indices], count


def _context(model: StableDiffusion, row: AugmentedRecord, token: str, vectors: Mapping[str, Tensor]) -> Tensor:
    """The prompt's context; under token noise, of vectors displaced by sigma x their root mean square.

    DIAGen (arXiv 2408.14584) adds an absolute sigma; relative to the vectors' size it means the same in every model.
    """
    try:
        if row.token_noise == 0:
            return model.embed(row.prompt)
        import torch

        generator = torch.Generator().manual_seed(seed_from("token noise", row.seed))
        plain = vectors[token]
        noise = torch.randn(plain.shape, generator=generator) * plain.square().mean().sqrt()
        return model.embed(row.prompt, {token: plain + row.token_noise * noise})
    except ValueError as error:
        raise UserError(f"generate.template: {error}") from error
