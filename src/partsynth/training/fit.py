"""Supervised contrastive training: values in, values out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core.backbones.layers import learning_rates
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.batches import Batches, Mix, Step
from partsynth.core.contrastive.losses import backward_in_micro_batches, collapse, feature_variance, supcon_loss
from partsynth.core.contrastive.optimizer import Muon
from partsynth.core.images import views
from partsynth.core.schedules import warmup_cosine
from partsynth.errors import UserError, either
from partsynth.seams import USES
from partsynth.store.hashing import seed_from
from partsynth.training.checkpoint import Checkpoint
from partsynth.training.classifier import build_encoder
from partsynth.training.devices import gather, make_accelerator
from partsynth.training.frozen import FrozenFeatures
from partsynth.training.images import TrainingImages, random_views
from partsynth.training.linear_probe import BATCH_SIZE, fit_linear_probe, knn_accuracy
from partsynth.training.result import Fitted, Measurement, NonFinite
from partsynth.training.use import Making, Seen, Use, shown_features

if TYPE_CHECKING:
    from accelerate import Accelerator

UNREAD = 10  # steps whose losses stay on a device at most: to read one is to wait until the device has done its work


def fit(
    images: TrainingImages,
    params: Train,
    seed: int,
    *,
    accelerator: Accelerator | None = None,
    on_measure: Callable[[Measurement], None] | None = None,
    checkpoint: Checkpoint | None = None,
    root: Path | None = None,
) -> Fitted:
    """Train an encoder by SupCon and a linear probe on it; with ``trainable: none`` the probe alone.

    Parameters
    ----------
    seed : of weights, batches and views.
    accelerator : None = made from the parameters.
    on_measure : called every ``eval_every`` steps on the main process; what it raises ends the training.
    checkpoint : written at every measurement; a training that finds its own goes on from there, to the same bytes.
    root : of the repository: features of a backbone that is not trained are kept below it; None = nowhere.

    Raises
    ------
    UserError
        for a device or a number of processes that does not fit, parameters that do not fit the backbone or the
        negatives, and a loss that is no number any more (``NonFinite``).
    """
    refuse_own_class(bool((images.is_negative & ~images.is_synthetic).any()), params)
    use: Use = USES[params.negative_use]
    accelerator = accelerator or make_accelerator(params)
    pixels, batches = images.images.to(accelerator.device), make_batches(images, params, seed)
    bare = build_encoder(params, seed_from("init", seed))
    if params.trainable == "none":
        return _probe_alone(bare, images, params, seed, accelerator, on_measure, root)
    whole = use.network(bare, len(images.classes), params, seed)  # the encoder, and what the use trains beside it
    optimizer: Any = Muon(_groups(bare, whole, params), params.learning_rate, params.weight_decay)
    history: list[Measurement] = []
    network, optimizer = accelerator.prepare(whole, optimizer)
    first = checkpoint.load(whole, optimizer, history) if checkpoint else 0

    told: list[list[float]] = []  # since the last measurement: loss, term, variance, loss + term
    unread: list[Tensor] = []
    with _progress(accelerator, "training", params.steps) as advance:
        for step in range(first, params.steps):
            rate = params.learning_rate * warmup_cosine(step, params.steps, params.warmup * params.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
            loss, term, embeddings = train_step(
                network, optimizer, accelerator, pixels, batches.step(step), params, seed, step
            )
            beside, total = (torch.full_like(loss, math.nan), loss) if term is None else (term, loss + term)
            unread.append(torch.stack([loss, beside, feature_variance(embeddings).to(loss), total]))
            due = (step + 1) % params.eval_every == 0 or step + 1 == params.steps
            if due or accelerator.device.type == "cpu" or len(unread) == UNREAD:
                told += torch.stack(unread).tolist()
                _refuse_non_finite(told[-len(unread) :], step + 2 - len(unread), params)
                unread = []
            if due:
                accuracy = knn_accuracy(bare, images)
                mean_loss, mean_term, variance, _ = (float(np.mean(column)) for column in zip(*told, strict=True))
                measured = Measurement(step + 1, mean_loss, rate, variance, accuracy, mean_term)
                history.append(measured)
                told = []
                if accelerator.is_main_process:
                    if on_measure:
                        on_measure(measured)
                    if checkpoint:
                        checkpoint.save(whole, optimizer, history)
            advance()

    bare.eval()
    model = encoders.Classifier(bare, len(images.classes), params.size).to(accelerator.device)
    making = Making(network=whole.eval(), pixels=pixels, params=params, seed=seed_from("shown", seed))
    shown = shown_features(bare, use.shown(making, images), BATCH_SIZE)
    metrics = fit_linear_probe(model, images, params, seed, shown)
    last = history[-1]
    metrics |= {"loss": last.loss, "feature_variance": last.feature_variance, "val_accuracy_knn": last.val_accuracy_knn}
    rows = _denominator_rows(batches.step(0), params)
    return Fitted(model.cpu(), history, metrics, collapse(last.loss, rows, last.feature_variance))


def _refuse_non_finite(told: list[list[float]], first: int, params: Train) -> None:
    """Look at the losses of the steps from number ``first`` on.

    Raises
    ------
    NonFinite
        naming the first step whose loss is no number.
    """
    for step, (_, _, _, total) in enumerate(told, first):
        if not math.isfinite(total):
            raise NonFinite(
                f"the loss became {total} at step {step} of {params.steps}: lower train.learning_rate "
                f"({params.learning_rate}), lengthen train.warmup ({params.warmup}), raise train.temperature "
                f"({params.temperature}) or set train.precision: no"
            )


def _groups(encoder: encoders.Encoder, whole: torch.nn.Module, params: Train) -> Any:
    """What the optimiser is given: the trained parameters, in groups of one learning rate where those differ."""
    if params.layer_decay == 1:
        return [p for p in whole.parameters() if p.requires_grad]
    shares = learning_rates(encoder.backbone, params.layer_decay)
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in whole.named_parameters():
        if parameter.requires_grad:
            own = name.removeprefix("encoder.").removeprefix("backbone.")
            groups.setdefault(shares.get(own, 1.0), []).append(parameter)
    return [{"params": members, "share": share} for share, members in groups.items()]


def _probe_alone(
    encoder: encoders.Encoder,
    images: TrainingImages,
    params: Train,
    seed: int,
    accelerator: Accelerator,
    on_measure: Callable[[Measurement], None] | None,
    root: Path | None,
) -> Fitted:
    """A linear probe on the backbone as it is; negatives have no part in it."""
    encoder.eval().to(accelerator.device)
    encoder.memory = kept = FrozenFeatures(encoder, root) if root else None
    measured = Measurement(0, math.nan, 0.0, math.nan, knn_accuracy(encoder, images))
    if accelerator.is_main_process and on_measure:
        on_measure(measured)
    model = encoders.Classifier(encoder, len(images.classes), params.size).to(accelerator.device)
    metrics = fit_linear_probe(model, images, params, seed)
    if kept and accelerator.is_main_process:
        kept.keep()
    metrics |= {"val_accuracy_knn": measured.val_accuracy_knn}
    return Fitted(model.cpu(), [measured], metrics, None)


def train_step(
    network: torch.nn.Module,
    optimizer: Any,
    accelerator: Accelerator,
    pixels: Tensor,
    drawn: Step,
    params: Train,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """One optimiser step on the global batch, of which each process encodes its share.

    Parameters
    ----------
    pixels : uint8 (n, S, S, 3), all training images on the device.
    drawn : the N samples of the step, rows of ``pixels``.

    Returns
    -------
    SupCon's loss, the term that the use of negatives adds to it (None where it adds none), and the embeddings (2m, D)
    of this process's m samples; all on the device, which is not waited for.
    """
    use: Use = USES[params.negative_use]
    rank, world = accelerator.process_index, accelerator.num_processes
    if len(drawn) % world:
        raise UserError(
            f"a step has {len(drawn)} images, no multiple of {world} processes: change train.anchors or train.negatives"
        )
    own = drawn.part(rank, world)
    # every process draws the numbers of the whole batch: the views do not depend on how many processes there are
    draws = drawn_views(drawn, seed, step)
    rows = slice(rank * len(own), (rank + 1) * len(own))
    pairs = torch.from_numpy(np.concatenate([own.first, own.second])).to(pixels.device)
    seen = random_views(pixels[pairs], draws[:, rows].flatten(0, 1), params)
    # (2m, 3, S, S), first views before second ones -> the two views of an image together
    seen = seen.unflatten(0, (2, len(own))).transpose(0, 1).flatten(0, 1)
    labels = torch.from_numpy(np.ascontiguousarray(drawn.labels)).to(pixels.device)
    is_negative = torch.from_numpy(drawn.is_negative).to(pixels.device)

    making = Making(
        network=accelerator.unwrap_model(network),
        pixels=pixels,
        params=params,
        seed=seed_from("made", seed, step),
        rank=rank,
        processes=world,
    )
    made = use.made(making, drawn)
    inputs = seen if made is None else torch.cat([seen, made.images])
    targets = None if made is None else gather(made.targets, accelerator)  # (e, C)
    found: dict[str, Tensor] = {}

    def loss_of(rows: Tensor) -> Tensor:
        everyone = gather(rows, accelerator).unflatten(0, (world, len(rows)))  # (world, 2m + e / world, D + E)
        pairs = everyone[:, : len(seen)].reshape(len(drawn), 2, -1)
        embeddings, others = pairs[..., : params.embedding], pairs[..., params.embedding :]
        loss = supcon_loss(
            embeddings,
            labels,
            is_negative,
            temperature=params.temperature,
            negative_weight=params.negative_weight,
            negatives=params.negative_scope,
        )
        found["loss"] = loss.detach()
        beside = everyone[:, len(seen) :, params.embedding :].flatten(0, 1)  # (e, E)
        wanted = beside if targets is None else targets
        term = use.term(Seen(embeddings, others, labels, is_negative, beside, wanted), params)
        if term is None:
            return loss
        found["term"] = term.detach()
        return loss + term

    def backward(loss: Tensor) -> None:
        # processes' gradients are averaged; each holds the part of the global loss's gradient that its rows carry
        accelerator.backward(loss * world)

    network.train()
    optimizer.zero_grad(set_to_none=True)
    _, outputs = backward_in_micro_batches(
        network, inputs, loss_of, params.chunk, backward, lambda: accelerator.no_sync(network)
    )
    optimizer.step()
    return found["loss"], found.get("term"), outputs[: len(seen), : params.embedding]


def drawn_views(drawn: Step, seed: int, step: int) -> Tensor:
    """The random numbers of both views, (2, N, DRAWS): those of in-distribution samples are the same with negatives
    beside them as without, so that setups with and without negatives are compared on the same views."""
    negatives = int(drawn.is_negative.sum())
    parts = [("views", len(drawn) - negatives), ("negatives' views", negatives)]  # negatives come last
    draws = [views.draw(2 * count, seed_from(what, seed, step)).view(2, count, -1) for what, count in parts if count]
    return torch.cat(draws, dim=1)


def make_batches(images: TrainingImages, params: Train, seed: int) -> Batches:
    mix = Mix(
        batch_size=params.anchors,
        synthetic_share=params.synthetic_share,
        negatives=params.negatives,
        replace_probability=params.replace_probability,
        views=params.views,
    )
    return Batches(
        images.labels, images.is_negative, images.is_synthetic, images.source, mix, seed_from("batches", seed)
    )


def refuse_own_class(has_real_negatives: bool, params: Train) -> None:
    """A real image is no negative of its own class: of the others only.

    Raises
    ------
    UserError
        where there are real negatives, and the parameters would let their own class meet them; and where what the
        parameters say of negatives contradicts itself.
    """
    if has_real_negatives and params.negative_scope != "other":
        raise UserError(
            f"the training table has real images as negatives, and train.negative_scope is {params.negative_scope}: "
            "they would push a class from its own images. Set negative_scope: other, in train or for this setup "
            "alone in select.<setup>.train"
        )
    if params.negative_scope == "other" and USES[params.negative_use].nobodys:
        fitting = either([name for name in USES if not USES[name].nobodys])
        raise UserError(
            f"train.negative_use {params.negative_use} teaches that negatives are of no class, and "
            "train.negative_scope other that they are of their own: set negative_use to "
            f"{fitting}, or negative_scope to all or own"
        )
    if params.trainable == "none" and params.negative_use != "denominator":
        raise UserError(
            f"train.negative_use {params.negative_use} trains the encoder, and train.trainable none does not: set "
            "negative_use: denominator, or trainable to all"
        )


def _denominator_rows(drawn: Step, params: Train) -> float:
    """Rows that an anchor's denominator is drawn from, itself included; negatives count by their weight."""
    negatives = 2 * int(drawn.is_negative.sum()) * params.negative_weight
    own = negatives / len(np.unique(drawn.labels))
    met = {"all": negatives, "own": own, "other": negatives - own}[params.negative_scope]
    return 2 * int((~drawn.is_negative).sum()) + met


@contextlib.contextmanager
def _progress(accelerator: Accelerator, text: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.progress import Progress

    with Progress(transient=True, disable=not accelerator.is_main_process) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)
