"""train: supervised contrastive training of one setup with one seed, then a linear classifier on the frozen encoder.

There is one ``fit``; setups differ by the rows of their training table alone and take equally many optimiser steps.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from partsynth import records, tracking
from partsynth.kernel import encoder as encoders
from partsynth.kernel import views
from partsynth.kernel.batches import Batches, Mix
from partsynth.kernel.losses import backward_in_chunks, collapse, feature_variance, supcon_loss
from partsynth.kernel.optimizer import Muon
from partsynth.params import Train
from partsynth.records import RealRecord, SelectedRecord, UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

CLASSIFIER_VIEWS = 4  # random views of each picture, beside the picture itself, that the classifier learns from
WORK = Path(".work/train")
FILES = ("encoder.safetensors", "classifier.safetensors", "config.json", "history.csv", "curves.png", "run.json")


@dataclass(frozen=True)
class Pictures:
    """What a training sees: training pictures as uint8 (n, S, S, 3) with a row of facts each, and validation ones."""

    classes: list[str]
    images: Tensor
    labels: np.ndarray  # (n,) index into classes; a negative carries the class it was made from
    is_negative: np.ndarray  # (n,) bool
    is_synthetic: np.ndarray  # (n,) bool
    source: np.ndarray  # (n,) index of the real picture it goes back to, -1 where that is not among them
    val_images: Tensor
    val_labels: np.ndarray


@dataclass(frozen=True)
class Measurement:
    """One row of history.csv: the state after ``step`` optimiser steps; loss and variance are means since the last."""

    step: int
    loss: float
    learning_rate: float
    feature_variance: float
    val_accuracy_knn: float  # 1-nearest real training picture by cosine; nan without validation pictures


@dataclass(frozen=True)
class Fitted:
    model: encoders.Classifier
    history: list[Measurement]
    metrics: dict[str, float]
    collapsed: str | None


class NonFinite(UserError):
    """The loss is no number any more."""


# --- compute: values in, values out ---------------------------------------------------------------------------------


def fit(
    pictures: Pictures,
    params: Train,
    seed: int,
    accelerator: Accelerator | None = None,
    on_measure: Callable[[Measurement], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train an encoder by SupCon and a linear classifier on it.

    ``on_measure`` is called every ``eval_every`` steps on the main process; what it raises ends the training.
    """
    refuse_own_class(bool((pictures.is_negative & ~pictures.is_synthetic).any()), params)
    accelerator = accelerator or make_accelerator(params)
    device, batches = accelerator.device, make_batches(pictures, params, seed)
    images = pictures.images.to(device)
    bare = encoders.build(params.width, params.blocks, params.embedding, seed=records.seed_from("init", seed))
    optimizer: Any = Muon(bare.parameters(), params.learning_rate, params.weight_decay)
    history: list[Measurement] = []
    network, optimizer = accelerator.prepare(bare, optimizer)
    first = checkpoint.load(bare, optimizer, history) if checkpoint else 0
    denominator = _denominator(batches.step(0), params)

    losses: list[float] = []
    variances: list[float] = []
    with _progress(accelerator, "training", params.steps) as advance:
        for step in range(first, params.steps):
            rate = params.learning_rate * schedule(step, params.steps, params.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, embeddings = train_step(network, optimizer, accelerator, images, batches, params, seed, step)
            if not math.isfinite(loss):
                raise NonFinite(
                    f"the loss became {loss} at step {step + 1} of {params.steps}: lower train.learning_rate "
                    f"({params.learning_rate}), lengthen train.warmup ({params.warmup}), raise train.temperature "
                    f"({params.temperature}) or set train.precision: no"
                )
            losses.append(loss)
            variances.append(feature_variance(embeddings))
            if (step + 1) % params.eval_every == 0 or step + 1 == params.steps:
                accuracy = knn_accuracy(bare, pictures)
                measured = Measurement(step + 1, float(np.mean(losses)), rate, float(np.mean(variances)), accuracy)
                history.append(measured)
                losses, variances = [], []
                if accelerator.is_main_process:
                    if on_measure:
                        on_measure(measured)
                    if checkpoint:
                        checkpoint.save(bare, optimizer, history)
            advance()

    bare.eval()
    model = encoders.Classifier(bare, len(pictures.classes), params.size).to(device)
    metrics = fit_classifier(model, pictures, images, params, seed)
    last = history[-1]
    metrics |= {"loss": last.loss, "feature_variance": last.feature_variance, "val_accuracy_knn": last.val_accuracy_knn}
    return Fitted(model.cpu(), history, metrics, collapse(last.loss, denominator, last.feature_variance))


def train_step(
    network: torch.nn.Module,
    optimizer: Any,
    accelerator: Accelerator,
    images: Tensor,
    batches: Batches,
    params: Train,
    seed: int,
    step: int,
) -> tuple[float, Tensor]:
    """One optimiser step on the global batch, of which each process encodes its share; loss and embeddings (2N, D)."""
    drawn = batches.step(step)
    rank, world = accelerator.process_index, accelerator.num_processes
    if len(drawn) % world:
        raise UserError(f"a step has {len(drawn)} pictures, no multiple of {world} processes: change train.anchors "
                        "or train.negatives")  # fmt: skip
    own = drawn.part(rank, world)
    # every process draws the numbers of the whole batch: the views do not depend on how many processes there are
    draws = views.draw(2 * len(drawn), records.seed_from("views", seed, step)).view(2, len(drawn), -1)
    rows = slice(rank * len(own), (rank + 1) * len(own))
    pairs = torch.from_numpy(np.concatenate([own.first, own.second])).to(images.device)
    flat = draws[:, rows].flatten(0, 1)
    seen = views.augment(encoders.to_float(images[pairs]), flat, kind=params.augment)  # (2n, 3, S, S)
    seen = seen.unflatten(0, (2, len(own))).transpose(0, 1).flatten(0, 1)  # (n, 2) -> rows, a picture's views together
    labels = torch.from_numpy(np.ascontiguousarray(drawn.labels)).to(images.device)
    is_negative = torch.from_numpy(drawn.is_negative).to(images.device)

    def loss_of(embeddings: Tensor) -> Tensor:
        everyone = gather(embeddings, accelerator)  # (2N, D)
        return supcon_loss(
            everyone.unflatten(0, (len(drawn), 2)),
            labels,
            is_negative,
            temperature=params.temperature,
            negative_weight=params.negative_weight,
            negatives=params.negative_scope,
        )

    def backward(loss: Tensor) -> None:
        # processes' gradients are averaged; each holds the part of the global loss's gradient that its rows carry
        accelerator.backward(loss * world)

    network.train()
    optimizer.zero_grad(set_to_none=True)
    loss, embeddings = backward_in_chunks(
        network, seen, loss_of, params.chunk, backward, lambda: accelerator.no_sync(network)
    )
    optimizer.step()
    return float(loss), embeddings


def gather(rows: Tensor, accelerator: Accelerator) -> Tensor:
    """All processes' rows (world * m, D) in the order of their ranks; gradients flow to this process's own (m, D)."""
    if accelerator.num_processes == 1:
        return rows
    everyone = list(accelerator.gather(rows.detach()).split(len(rows)))
    everyone[accelerator.process_index] = rows
    return torch.cat(everyone)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate, in (0, 1]: linear warm-up over ``warmup * steps``, then half a cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def make_batches(pictures: Pictures, params: Train, seed: int) -> Batches:
    mix = Mix(params.anchors, params.synthetic_share, params.negatives, params.replace_probability, params.views)
    return Batches(
        pictures.labels,
        pictures.is_negative,
        pictures.is_synthetic,
        pictures.source,
        mix,
        records.seed_from("batches", seed),
    )


def refuse_own_class(has_real_negatives: bool, params: Train) -> None:
    """A real picture is no negative of its own class: of the others only."""
    if has_real_negatives and params.negative_scope != "other":
        raise UserError(
            f"the training table has real pictures as negatives, and train.negative_scope is {params.negative_scope}: "
            "they would push a class from its own pictures. Set negative_scope: other, in train or for this setup "
            "alone in select.<setup>.train"
        )


def make_accelerator(params: Train) -> Accelerator:
    """Device, precision and processes, as ``accelerate launch`` or the parameters say."""
    cuda = torch.cuda.is_available()
    if params.device == "cuda" and not cuda:
        raise UserError("train.device is cuda, but torch sees no CUDA device: set it to auto or cpu")
    cpu = params.device == "cpu" or not cuda
    if cpu and params.precision == "fp16":
        raise UserError("train.precision fp16 needs a CUDA device: set it to no or bf16")
    from accelerate import Accelerator

    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    return Accelerator(cpu=cpu, mixed_precision=params.precision)


def _denominator(drawn: Any, params: Train) -> float:
    """Rows that an anchor's denominator is drawn from, itself included; negatives count by their weight."""
    negatives = 2 * int(drawn.is_negative.sum()) * params.negative_weight
    own = negatives / len(np.unique(drawn.labels))
    negatives = {"all": negatives, "own": own, "other": negatives - own}[params.negative_scope]
    return 2 * int((~drawn.is_negative).sum()) + negatives


@torch.no_grad()
def _features(
    network: encoders.Encoder, images: Tensor, draws: Tensor | None = None, kind: Any = "standard"
) -> Tensor:
    """Features (n, D) of uint8 pictures (n, S, S, 3), or of a random view of each where ``draws`` are given."""
    device, parts = next(network.parameters()).device, []
    for rows in torch.arange(len(images)).split(256):
        x = encoders.to_float(images[rows].to(device))
        parts.append(network.features(x if draws is None else views.augment(x, draws[rows], kind=kind)))
    return torch.cat(parts)


def knn_accuracy(network: encoders.Encoder, pictures: Pictures) -> float:
    """Share of validation pictures whose nearest real training picture (cosine of features) is of their class."""
    if not len(pictures.val_labels):
        return math.nan
    network.eval()
    real = torch.from_numpy(~pictures.is_synthetic & ~pictures.is_negative)
    known = _features(network, pictures.images[real])
    asked = _features(network, pictures.val_images)
    normalise = torch.nn.functional.normalize
    nearest = (normalise(asked) @ normalise(known).T).argmax(1).cpu().numpy()
    return float((pictures.labels[real.numpy()][nearest] == pictures.val_labels).mean())


def fit_classifier(
    model: encoders.Classifier, pictures: Pictures, images: Tensor, params: Train, seed: int
) -> dict[str, float]:
    """Fit ``model.classifier`` on the frozen encoder; returns its accuracies.

    Features of the positives, each as it is and in a few random views, are made once; then multinomial logistic
    regression in standardised features. Classes weigh alike; within one, synthetic pictures weigh
    ``synthetic_share`` together.
    """
    positive = np.flatnonzero(~pictures.is_negative)
    chosen = images[torch.from_numpy(positive).to(images.device)]
    parts = [_features(model.encoder, chosen)]
    for view in range(CLASSIFIER_VIEWS):
        draws = views.draw(len(positive), records.seed_from("classifier views", seed, view))
        parts.append(_features(model.encoder, chosen, draws, params.augment))
    features = torch.cat(parts)  # ((1 + views) n, D)
    repeats = len(features) // len(positive)
    labels = torch.from_numpy(np.tile(pictures.labels[positive], repeats)).to(images.device)
    weights = _sample_weights(pictures, positive, params.synthetic_share)
    weights = torch.from_numpy(np.tile(weights, repeats)).to(images.device, torch.float32)
    weights /= weights.sum()

    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(records.seed_from("classifier", seed))
        linear = torch.nn.Linear(x.shape[1], len(pictures.classes)).to(x.device)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=params.classifier_learning_rate, weight_decay=1e-2)
    for step in range(params.classifier_steps):
        optimizer.param_groups[0]["lr"] = params.classifier_learning_rate * schedule(step, params.classifier_steps, 0)
        loss = (torch.nn.functional.cross_entropy(linear(x), labels, reduction="none") * weights).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not math.isfinite(float(loss.detach())):
        raise NonFinite(f"the classifier's loss became {float(loss.detach())}: lower train.classifier_learning_rate")
    with torch.no_grad():  # fold the standardisation in: the saved classifier takes features as the encoder gives them
        model.classifier.weight.copy_(linear.weight / spread)
        model.classifier.bias.copy_(linear.bias - (linear.weight / spread) @ mean)
        clean = model.classifier(features[: len(positive)]).argmax(1).cpu().numpy()
    metrics = {
        "classifier_loss": float(loss.detach()),
        "train_accuracy": float((clean == pictures.labels[positive]).mean()),
    }
    if len(pictures.val_labels):
        _, logits = encoders.embed(model, pictures.val_images)
        metrics["val_accuracy"] = float((logits.argmax(1).numpy() == pictures.val_labels).mean())
    return metrics


def _sample_weights(pictures: Pictures, rows: np.ndarray, synthetic_share: float) -> np.ndarray:
    """(len(rows),) weights: each class sums to 1, its synthetic pictures to ``synthetic_share`` where it has both."""
    weights = np.zeros(len(rows))
    labels, made = pictures.labels[rows], pictures.is_synthetic[rows]
    for c in np.unique(labels):
        real, synthetic = (labels == c) & ~made, (labels == c) & made
        share = synthetic_share if synthetic.any() and real.any() else float(synthetic.any())
        weights[real] = (1 - share) / max(real.sum(), 1)
        weights[synthetic] = share / max(synthetic.sum(), 1)
    return weights


@contextlib.contextmanager
def _progress(accelerator: Accelerator, text: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.progress import Progress

    with Progress(transient=True, disable=not accelerator.is_main_process) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)


# --- checkpoints ----------------------------------------------------------------------------------------------------


class Checkpoint:
    """Encoder, optimiser state and history in one safetensors file, written whole or not at all."""

    def __init__(self, path: Path, fingerprint: str):
        self.path, self.fingerprint = path, fingerprint

    def load(self, network: torch.nn.Module, optimizer: Any, history: list[Measurement]) -> int:
        """Restore in place; returns the steps already done, 0 where there is no usable checkpoint of this training."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                told = file.metadata() or {}
                if told.get("fingerprint") != self.fingerprint:
                    return 0
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return 0
        history += [Measurement(**row) for row in json.loads(told["history"])]
        network.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return history[-1].step

    def save(self, network: torch.nn.Module, optimizer: Any, history: Sequence[Measurement]) -> None:
        from safetensors.torch import save

        tensors = {f"model.{key}": value for key, value in encoders.tensors(network).items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in values.items()}
        told = {"fingerprint": self.fingerprint, "history": json.dumps([asdict(row) for row in history])}
        records.write_bytes_atomic(self.path, save(tensors, told))

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


# --- the stage ------------------------------------------------------------------------------------------------------


def run(
    params: Train,
    setup: str,
    seed: int,
    selected: Path,
    real: Path,
    out: Path,
    root: Path,
    *,
    parent_run_id: str | None = None,
    experiment: str = tracking.EXPERIMENT,
    on_measure: Callable[[Measurement], None] | None = None,
) -> dict[str, float]:
    """Train ``setup`` with ``seed`` and write the model's folder ``out``; returns the final metrics.

    Reads ``selected`` (SelectedRecord rows) and the val part of ``real``/manifest.csv; every picture is checked against
    its sha256. Writes encoder.safetensors, classifier.safetensors, config.json, history.csv, curves.png and, last,
    run.json. Where ``out`` already holds the product of the same inputs, nothing is trained.

    Raises
    ------
    UserError
        for pictures that are missing, altered or of another size, unusable tables, a device that is not there, and
        a loss that is no number any more (``NonFinite``).
    """
    started = time.perf_counter()
    rows, val = _read_tables(selected, real)
    refuse_own_class(any(r.role == "negative" and r.origin == "real" for r in rows), params)
    mark = fingerprint_of(params, setup, seed, rows, val)
    if (metrics := _finished(out, mark)) is not None:
        print(f"train {setup}, seed {seed}: {out} is current")
        return metrics
    accelerator = make_accelerator(params)
    pictures = load_pictures(rows, val, params.size, root)
    if accelerator.is_main_process:
        print(f"train {setup}, seed {seed}: {_inventory(rows)}; {len(val)} for validation; {params.steps} steps")
    checkpoint = Checkpoint(root / WORK / f"{setup}-{seed}" / f"{mark[:16]}.safetensors", mark)
    if not accelerator.is_main_process:
        return fit(pictures, params, seed, accelerator, checkpoint=checkpoint).metrics

    (out / "run.json").unlink(missing_ok=True)
    records.prune(out, [out / name for name in FILES])
    logged = {"train": params.model_dump(mode="json"), "setup": setup, "seed": seed, "pictures": len(rows)}
    with tracking.training_run(
        root, "train", setup, seed, mark, logged, _inputs(rows, selected, real, root),
        parent_run_id=parent_run_id, experiment=experiment,
    ) as tracked:  # fmt: skip

        def measured(m: Measurement) -> None:
            figures = {"val_accuracy_knn": m.val_accuracy_knn} | asdict(m)  # first what runs are compared by
            tracked.log_metrics({k: v for k, v in figures.items() if k != "step" and not math.isnan(v)}, m.step)
            if on_measure:
                on_measure(m)

        fitted = fit(pictures, params, seed, accelerator, measured, checkpoint)
        metrics = {k: v for k, v in fitted.metrics.items() if not math.isnan(v)}
        _write(fitted, params, setup, seed, mark, pictures.classes, out)
        seconds = time.perf_counter() - started
        tracked.log_metrics({f"final_{k}": v for k, v in metrics.items()} | {"seconds": seconds}, params.steps)
        if fitted.collapsed:
            tracked.set_tags({"collapse": fitted.collapsed})
        tracked.log_model(out)
        tracked.log_artifact(out / "curves.png", "plots")
        records.write_json(out / "run.json", tracked.identity)
    checkpoint.delete()
    told = ", ".join(f"{k} {metrics[k]:.3f}" for k in ("val_accuracy", "val_accuracy_knn", "loss") if k in metrics)
    print(f"train {setup}, seed {seed}: {told} ({seconds:.0f} s)")
    if fitted.collapsed:
        print(f"WARNING: train {setup}, seed {seed}: {fitted.collapsed}")
    return metrics


def fingerprint_of(
    params: Train, setup: str, seed: int, rows: Sequence[SelectedRecord], val: Sequence[RealRecord]
) -> str:
    """Identity of a training: parameters that shape it, pictures by hash and use, and the code that does it."""
    here = Path(__file__).parent.parent
    kernel = ["batches", "encoder", "losses", "optimizer", "views"]
    code = [*(f"kernel/{name}.py" for name in kernel), "steps/train.py"]
    return records.fingerprint(
        {
            "params": params.model_dump(mode="json"),
            "setup": setup,
            "seed": seed,
            "rows": [[r.path, r.sha256, r.class_name, r.role, r.origin, r.source] for r in rows],
            "val": [[r.path, r.sha256, r.class_name] for r in val],
            "code": {name: records.sha256_file(here / name) for name in code},
        }
    )


def _read_tables(selected: Path, real: Path) -> tuple[list[SelectedRecord], list[RealRecord]]:
    rows = records.read_manifest(selected, SelectedRecord)
    faults = [f"{r.path}: role {r.role!r}, allowed: positive, negative" for r in rows
              if r.role not in ("positive", "negative")]  # fmt: skip
    classes = sorted({r.class_name for r in rows if r.role == "positive" and r.origin == "real"})
    if len(classes) < 2:
        faults.append(f"needs real pictures of at least two classes, has {', '.join(classes) or 'none'}")
    strangers = sorted({r.class_name for r in rows} - set(classes))
    if strangers:
        faults.append(f"classes without a real picture: {', '.join(strangers)}")
    if faults:
        raise UserError(f"{selected} cannot be trained on:\n  " + "\n  ".join(faults[:10]))
    manifest = records.read_manifest(real / "manifest.csv", RealRecord)
    return rows, [r for r in manifest if r.split == "val" and r.role == "target" and r.class_name in classes]


def load_pictures(rows: Sequence[SelectedRecord], val: Sequence[RealRecord], size: int, root: Path) -> Pictures:
    """Every picture's bytes are checked against its row's sha256; all faults are named in one error."""
    faults: list[str] = []

    def load(wanted: Sequence[records.Record]) -> Tensor:
        images = []
        for record in wanted:
            try:
                images.append(np.asarray(encoders.resize(records.read_picture(root, record), size)))
            except (UserError, OSError) as error:
                faults.append(str(error))
        return torch.from_numpy(np.stack(images)) if images else torch.zeros(0, size, size, 3, dtype=torch.uint8)

    images, val_images = load(rows), load(val)
    if faults:
        more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError(f"{len(faults)} pictures cannot be used:\n  " + "\n  ".join(faults[:10]) + more)
    classes = sorted({r.class_name for r in rows})
    place = {r.path: i for i, r in enumerate(rows) if r.role == "positive"}
    return Pictures(
        classes=classes,
        images=images,
        labels=np.array([classes.index(r.class_name) for r in rows], dtype=np.int64),
        is_negative=np.array([r.role == "negative" for r in rows], dtype=bool),
        is_synthetic=np.array([r.origin != "real" for r in rows], dtype=bool),
        source=np.array([place.get(r.source, -1) for r in rows], dtype=np.int64),
        val_images=val_images,
        val_labels=np.array([classes.index(r.class_name) for r in val], dtype=np.int64),
    )


def _inventory(rows: Sequence[SelectedRecord]) -> str:
    counts = {
        "real": sum(r.role == "positive" and r.origin == "real" for r in rows),
        "synthetic positives": sum(r.role == "positive" and r.origin != "real" for r in rows),
        "negatives": sum(r.role == "negative" for r in rows),
    }
    return f"{len({r.class_name for r in rows})} classes, " + ", ".join(f"{n} {name}" for name, n in counts.items())


def _inputs(rows: Sequence[SelectedRecord], selected: Path, real: Path, root: Path) -> list[tracking.DataInput]:
    def name(path: Path) -> str:
        return (path if not path.is_absolute() else path.relative_to(root)).as_posix()

    inputs = [
        tracking.DataInput("real", name(real), None, "training"),
        tracking.DataInput(f"selected-{selected.stem}", name(selected), None, "training"),
    ]
    made = sorted({(r.origin, r.role) for r in rows if r.origin != "real"})
    inputs += [
        tracking.DataInput(origin, f"data/augmented/{origin}", None, "training" if role == "positive" else "negatives")
        for origin, role in made
    ]
    if made:
        inputs.append(tracking.DataInput("tokens", "models/tokens", None, "tokens"))
    return inputs


def _finished(out: Path, mark: str) -> dict[str, float] | None:
    """The metrics of a whole product of this fingerprint, else None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(out / "encoder.safetensors", "np") as file:
            if (file.metadata() or {}).get("fingerprint") != mark:
                return None
        config = json.loads((out / "config.json").read_text())
        whole = config["fingerprint"] == mark and json.loads((out / "run.json").read_text())["fingerprint"] == mark
        return config["metrics"] if whole and (out / "classifier.safetensors").is_file() else None
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _write(
    fitted: Fitted, params: Train, setup: str, seed: int, mark: str, classes: list[str], out: Path
) -> None:
    from safetensors.torch import save

    def write(name: str, module: torch.nn.Module) -> None:
        records.write_bytes_atomic(out / name, save(encoders.tensors(module), {"fingerprint": mark}))

    write("encoder.safetensors", fitted.model.encoder)
    write("classifier.safetensors", fitted.model.classifier)
    metrics = {k: v for k, v in fitted.metrics.items() if not math.isnan(v)}
    architecture = {"width": params.width, "blocks": params.blocks, "embedding": params.embedding}
    records.write_json(
        out / "config.json",
        {
            "architecture": architecture,
            "size": params.size,
            "classes": classes,
            "setup": setup,
            "seed": seed,
            "train": params.model_dump(mode="json"),
            "metrics": metrics,
            "collapse": fitted.collapsed,
            "fingerprint": mark,
        },
    )
    header = list(Measurement.__dataclass_fields__)
    lines = [",".join(header)] + [",".join(repr(v) for v in asdict(row).values()) for row in fitted.history]
    records.write_text_atomic(out / "history.csv", "\n".join(lines) + "\n")
    _plot(fitted.history, f"{setup}, seed {seed}", out / "curves.png")


def _plot(history: Sequence[Measurement], title: str, path: Path) -> None:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = {"loss": "SupCon loss", "val_accuracy_knn": "validation accuracy (1-NN)", "feature_variance": "feature variance"}
    for axes, (name, label) in zip(figure.subplots(1, 3), names.items(), strict=True):
        axes.plot([m.step for m in history], [getattr(m, name) for m in history], marker=".")
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        if name != "loss":
            axes.set_ylim(0, 1.02)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    records.write_bytes_atomic(path, buffer.getvalue())
