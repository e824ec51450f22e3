"""Uses of negatives: each trains, is exact in micro-batches, goes on after a kill, and does what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shapes import TINY, images_of, weights

from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.losses import supcon_loss
from partsynth.errors import UserError
from partsynth.seams import USES
from partsynth.store.state import SavedState
from partsynth.training.checkpoint import Checkpoint
from partsynth.training.classifier import build_encoder
from partsynth.training.fit import fit, make_batches
from partsynth.training.result import Fitted, Measurement
from partsynth.training.use import Made, Making, Seen

OTHERS = [name for name in USES.names if name != "denominator"]


def used(name: str, **changes: Any) -> Any:
    return TINY.model_copy(update={"negative_use": name, **changes})


def embedded(fitted: Fitted, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    features, logits = encoders.embed(fitted.model, pixels)
    return features.double().numpy(), logits.double().numpy()


def test_the_default_is_written_nowhere_and_adds_nothing(project: Path) -> None:
    assert not {key for key in TINY.model_dump() if key.startswith(("negative_use", "mix_", "outlier_"))}
    fitted = fit(images_of(project), TINY.model_copy(update={"steps": 2, "eval_every": 1}), 0)
    assert np.isnan([m.use_loss for m in fitted.history]).all()


@pytest.mark.parametrize("name", OTHERS)
def test_micro_batches_give_the_plain_training_and_the_seed_its_weights(project: Path, name: str) -> None:
    short = used(name, steps=3, eval_every=1, learning_rate=1e-3, classifier_steps=10)
    plain, again = (fit(images_of(project), short, 0) for _ in range(2))
    assert torch.equal(weights(plain), weights(again))
    assert torch.equal(plain.model.classifier.weight, again.model.classifier.weight)
    cached = fit(images_of(project), short.model_copy(update={"chunk": 5}), 0)
    for figure in ("loss", "use_loss"):
        ours, theirs = ([getattr(m, figure) for m in of.history] for of in (cached, plain))
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    torch.testing.assert_close(weights(cached), weights(plain), rtol=0, atol=1e-3)
    denominator = fit(images_of(project), short.model_copy(update={"negative_use": "denominator"}), 0)
    assert not torch.allclose(weights(plain), weights(denominator), atol=1e-6)  # the encoder learns from the term


@pytest.mark.parametrize("name", OTHERS)
def test_a_killed_training_goes_on_to_the_same_weights(project: Path, tmp_path: Path, name: str) -> None:
    params, images = used(name, steps=4, eval_every=2, classifier_steps=10), images_of(project)
    whole = fit(images, params, 0)
    checkpoint = Checkpoint(SavedState(tmp_path / "c.safetensors", "these inputs"))

    class Killed(Exception):
        pass

    def kill(measured: Measurement) -> None:
        if measured.step == 4:
            raise Killed

    with pytest.raises(Killed):
        fit(images, params, 0, checkpoint=checkpoint, on_measure=kill)
    resumed = fit(images, params, 0, checkpoint=checkpoint)
    assert torch.equal(weights(resumed), weights(whole)) and repr(resumed.history) == repr(whole.history)
    assert torch.equal(resumed.model.classifier.weight, whole.model.classifier.weight)


@pytest.mark.parametrize("name", OTHERS)
def test_every_use_trains_where_there_are_no_negatives(project: Path, name: str) -> None:
    fitted = fit(images_of(project, "real"), used(name, steps=2, eval_every=1), 0)
    assert np.isfinite([m.use_loss for m in fitted.history]).all()


def test_exposure_makes_the_probe_unsure_of_negatives(project: Path) -> None:
    """The same encoder's seed, steps and images: the largest softmax on the exposed negatives falls."""
    images = images_of(project)
    negatives = images.images[torch.from_numpy(images.is_negative)]

    def confidence(params: Any) -> float:
        logits = embedded(fit(images, params, 0), negatives)[1]
        return float(torch.from_numpy(logits).softmax(1).amax(1).mean())

    longer: Mapping[str, Any] = {"steps": 24, "classifier_steps": 200, "negative_use_weight": 2.0}
    plain = confidence(used("denominator", **longer))
    assert confidence(used("outlier_exposure", **longer)) < plain - 0.1


def test_the_term_on_features_brings_supcon_to_where_knn_looks(project: Path) -> None:
    images = images_of(project)
    labels, negative = torch.from_numpy(images.labels), torch.from_numpy(images.is_negative)

    def loss(params: Any) -> float:
        features = torch.from_numpy(embedded(fit(images, params, 0), images.images)[0])
        return float(supcon_loss(torch.nn.functional.normalize(features, dim=1), labels, negative))

    longer: Mapping[str, Any] = {"steps": 40, "negative_use_weight": 4.0, "eval_every": 40}
    assert loss(used("features", **longer)) < loss(used("denominator", **longer))


def test_instances_are_anchors_among_all_rows_of_the_step() -> None:
    """The term against its formula, written with masks."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(7, 2, 5, generator=generator, dtype=torch.float64), dim=2)
    negative = torch.tensor([False, False, False, True, True, False, True])
    nothing = torch.zeros(0, 3)
    seen = Seen(rows, torch.zeros(7, 2, 0), torch.tensor([0, 0, 1, 0, 0, 1, 1]), negative, nothing, nothing)
    params = used("instances", negative_use_weight=2.0, temperature=0.3)
    sums = rows.flatten(0, 1) @ rows.flatten(0, 1).T / 0.3
    terms = [sums[i, i ^ 1] - torch.logsumexp(sums[i, torch.arange(14) != i], 0) for i in range(14) if negative[i // 2]]
    torch.testing.assert_close(USES["instances"].term(seen, params), -2.0 * torch.stack(terms).mean())


def test_what_instances_ask_for_is_learned(project: Path) -> None:
    learned = fit(images_of(project), used("instances", steps=60, eval_every=20), 0).history
    assert learned[0].use_loss - 0.1 > learned[1].use_loss > learned[2].use_loss


@pytest.mark.parametrize("name", ["outlier_exposure", "mixoe"])
def test_without_the_heads_gradient_the_encoder_is_that_of_supcon(project: Path, name: str) -> None:
    short: Mapping[str, Any] = {"steps": 4, "eval_every": 4, "classifier_steps": 10}
    supcon, held, usual = (
        weights(fit(images_of(project), params, 0))
        for params in (used("denominator", **short), used(name, head_gradient=0.0, **short), used(name, **short))
    )
    torch.testing.assert_close(held, supcon, rtol=0, atol=1e-4)  # images that are made join the batch: other last bits
    assert not torch.allclose(usual, supcon, atol=1e-2)


@pytest.mark.parametrize("name", ["mixoe", "ascood"])
def test_processes_together_make_what_one_makes(project: Path, name: str) -> None:
    params, images = used(name), images_of(project)
    drawn = make_batches(images, params, 0).step(0)
    network = USES[name].network(build_encoder(params, 0), len(images.classes), params, 0)

    def made(rank: int, processes: int) -> Made:
        making = Making(network=network, pixels=images.images, params=params, seed=7, rank=rank, processes=processes)
        found = USES[name].made(making, drawn)
        assert found is not None
        return found

    alone, halves = made(0, 1), [made(rank, 2) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([h.images for h in halves]), alone.images, atol=1e-5, rtol=1e-5)
    assert torch.equal(torch.cat([h.targets for h in halves]), alone.targets)
    assert len(alone.images) == params.negatives and alone.images.min() >= 0 and alone.images.max() <= 1
    with pytest.raises(UserError, match=r"no multiple of 3 processes: change train\.negatives"):
        made(0, 3)


def test_what_contradicts_itself_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="negative_use to 'denominator' or 'features', or negative_scope to all"):
        fit(images_of(project), used("outlier_exposure", negative_scope="other"), 0)
    with pytest.raises(UserError, match=r"trains the encoder, and train\.trainable none does not"):
        fit(images_of(project), used("features", trainable="none"), 0)
