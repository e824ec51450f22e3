"""Sections of params.yaml from selection to report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_serializer

from partsynth.config.base import Count, Fraction, Positive, Section, Seed, member_of
from partsynth.seams import BACKBONES, RULES, SCORES


class Train(Section):
    """SupCon, then a linear classifier on the frozen encoder."""

    # left out of what is written at its default: identities made before there was a choice stay as they are
    backbone: Annotated[str, member_of(BACKBONES)] = Field("narrow_resnet", exclude_if="narrow_resnet".__eq__)
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 32  # channels of the ResNet's first stage
    blocks: list[Count] = [1, 1, 1]  # residual blocks a stage; each stage has twice the channels of the one before
    embedding: Count = 64  # dimensions of the projection head's output
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    steps: Count = 300  # optimiser steps of SupCon, the same for every setup
    anchors: Count = 24  # in-distribution pictures a step
    synthetic_share: Fraction = 0.5  # of the anchors, where the setup has synthetic positives
    negatives: Annotated[int, Field(ge=0)] = 12  # negative-only pictures added to each step, where the setup has any
    negative_weight: Annotated[float, Field(ge=0)] = 1.0  # lambda in the denominator
    negative_scope: Literal["all", "own", "other"] = "all"  # an anchor meets all negatives, its own class's, or others'
    views: Literal["crops", "augmentation"] = "crops"  # second view: another crop, or the part's own augmentation
    augment: Literal["standard", "randaugment"] = "standard"  # colours of a view: jitter and grey, or RandAugment
    replace_probability: Fraction = 0.0  # DA-Fusion: a real anchor is replaced by one of its augmentations
    temperature: Positive = 0.1
    learning_rate: Positive = 1.5e-2  # peak, of Muon
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup: Fraction = 0.1  # share of the steps
    chunk: Count | None = None  # views a forward pass (two a picture); smaller = same loss in less memory, but slower
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    classifier_steps: Count = 300
    classifier_learning_rate: Positive = 1e-2
    eval_every: Count = 100  # steps between validation measurements


class TrainChanges(Train):
    """A part of section train: only the keys that are given count. What makes trainings comparable is refused."""

    @field_validator(
        "backbone",
        "width",
        "blocks",
        "embedding",
        "size",
        "steps",
        "anchors",
        "classifier_steps",
        "eval_every",
        "precision",
        "device",
        mode="before",
    )
    @classmethod
    def _same_for_all(cls, value: Any) -> Any:
        raise ValueError("must be the same for every setup (equal steps, one architecture): set it in section train")

    @model_serializer(mode="wrap")
    def _given(self, whole: Any) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if key in self.model_fields_set}


class SelectSetup(Section):
    """How one setup uses the set it adds."""

    role: Literal["positive", "negative"] = "positive"
    rule: Annotated[str, member_of(RULES)] = "accepted"  # random: as many a class as band, of any drift
    band: tuple[Fraction, Fraction] = (
        0.95,
        1.0,
    )  # rules band and random: percentile strictly above the first, at most the second
    cap: Annotated[float, Field(gt=0)] | None = (
        None  # rules band and random: drift at most this, in class standard deviations
    )
    nearest_own: bool = False  # keep only pictures whose nearest class is their own
    max_per_class: Count | None = None
    train: TrainChanges | None = None  # keys of section train that this setup changes, e.g. {negative_weight: 0.3}

    def training(self, shared: Train) -> Train:
        """Section train as this setup has it."""
        if self.train is None:
            return shared
        return shared.model_copy(update={key: getattr(self.train, key) for key in self.train.model_fields_set})


class Matrix(Section):
    """Which trainings there are: every setup with every seed. Apart from ``train``, so that one more seed adds runs."""

    setups: list[str] = ["real", "real_id", "real_id_negatives"]
    seeds: list[Seed] = [0, 1, 2]


class Evaluate(Section):
    """Accuracy and OOD figures; every choice is made on validation parts."""

    headline_score: Annotated[str, member_of(SCORES)] = "knn"  # predeclared
    k: list[Count] = [1, 3, 5, 10]  # kNN neighbours to choose from on OOD-validation
    id_recall: Fraction = 0.95  # FPR@95
    confidence: Fraction = 0.95  # of the intervals over seeds
    batch_size: Count = 256


class Report(Section):
    """The page for people."""

    title: str = "Do good augmentations help, and can bad ones help as negatives?"
    sheet_pictures: Count = 24  # pictures a contact sheet
