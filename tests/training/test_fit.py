"""Trainings of seconds on drawn shapes: equal steps, exact micro-batches, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shapes import SETUPS, TINY, images_of, weights

from partsynth.core.contrastive.batches import Step
from partsynth.core.images import views
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.training.fit import drawn_views, fit, make_batches, train_step
from partsynth.training.result import NonFinite


def test_every_setup_takes_equally_many_steps(project: Path) -> None:
    """Defect 11."""
    taken = [[m.step for m in fit(images_of(project, setup), TINY, 0).history] for setup in SETUPS]
    assert taken == [[4, 8, 12]] * 3


def test_micro_batches_give_the_plain_training(project: Path) -> None:
    """Cached gradients: same losses and weights as the whole batch at once."""
    short = TINY.model_copy(update={"steps": 3, "eval_every": 1, "learning_rate": 1e-3})
    plain = fit(images_of(project), short, 0)
    cached = fit(images_of(project), short.model_copy(update={"chunk": 5}), 0)
    np.testing.assert_allclose([m.loss for m in cached.history], [m.loss for m in plain.history], rtol=1e-4)
    torch.testing.assert_close(weights(cached), weights(plain), rtol=0, atol=1e-3)


def test_the_seed_gives_the_weights_and_what_is_raised_while_measuring_ends_the_training(project: Path) -> None:
    short = TINY.model_copy(update={"steps": 2, "eval_every": 1})
    first, again, other = (weights(fit(images_of(project), short, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)

    class Enough(Exception):
        pass

    def stop(measured: object) -> None:
        raise Enough

    with pytest.raises(Enough):
        fit(images_of(project), short, 0, on_measure=stop)


def test_negatives_change_no_view_of_the_others() -> None:
    """Setups with and without negatives are compared within a seed: on the same views of the same images."""

    def drawn(negatives: int) -> Step:
        rows = np.arange(6 + negatives)
        return Step(rows, rows, rows, rows >= 6)

    plain, more = drawn_views(drawn(0), 3, 7), drawn_views(drawn(4), 3, 7)
    assert plain.shape == (2, 6, views.DRAWS) and more.shape == (2, 10, views.DRAWS)
    assert torch.equal(plain, more[:, :6])
    assert not torch.equal(more[0], more[1]) and len(more.flatten(0, 1).unique(dim=0)) == 20
    assert not torch.equal(plain, drawn_views(drawn(0), 3, 8))


def test_a_loss_that_is_no_number_ends_the_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partsynth.training.fit.supcon_loss", lambda z, *_, **__: z.sum() * float("nan"))
    with pytest.raises(NonFinite, match=r"nan at step 1 of 12.*learning_rate"):
        fit(images_of(project), TINY, 0)


def test_real_negatives_need_the_scope_other(project: Path) -> None:
    path = project / "data/selected/real.csv"
    rows = read_manifest(path, SelectedRecord)
    write_manifest(path, rows + [r.model_copy(update={"role": "negative"}) for r in rows[::2]], SelectedRecord)
    with pytest.raises(UserError, match="Set negative_scope: other"):
        fit(images_of(project, "real"), TINY, 0)
    images = images_of(project, "real")
    assert not images.is_negative[images.source].any()  # an image goes back to the positive
    assert np.isfinite(fit(images, TINY.model_copy(update={"negative_scope": "other"}), 0).metrics["loss"])


@pytest.mark.parametrize("augment", ["standard", "randaugment"])
def test_views_of_a_kind_are_what_is_trained_on(project: Path, monkeypatch: pytest.MonkeyPatch, augment: str) -> None:
    kinds = set()
    real = views.augment
    monkeypatch.setattr(views, "augment", lambda *a, **k: kinds.add(k["kind"]) or real(*a, **k))
    fitted = fit(images_of(project, "real"), TINY.model_copy(update={"augment": augment, "steps": 1}), 0)
    assert kinds == {augment} and np.isfinite(fitted.metrics["loss"])


def test_a_step_that_processes_cannot_share_is_refused(project: Path) -> None:
    class Two:
        process_index, num_processes = 0, 2

    images = images_of(project)
    odd = TINY.model_copy(update={"anchors": 11})
    drawn = make_batches(images, odd, 0).step(0)
    with pytest.raises(UserError, match=r"15 images, no multiple of 2 processes: change train.anchors"):
        train_step(torch.nn.Identity(), None, Two(), images.images, drawn, odd, 0, 0)  # type: ignore[arg-type]
