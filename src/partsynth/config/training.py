"""Sections select, matrix and train: what is trained, on what, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from partsynth.config.base import Count, Fraction, Positive, Section, Seed, member_of, unless
from partsynth.config.evaluation import Evaluate, Report
from partsynth.seams import BACKBONES, RULES, USES

__all__ = ["Evaluate", "Matrix", "Report", "SelectSetup", "Train", "TrainChanges"]


class Train(Section):
    """SupCon, then a linear probe on the frozen encoder."""

    backbone: Annotated[str, member_of(BACKBONES), unless("narrow_resnet")] = "narrow_resnet"
    """The network before the projection head."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the ResNet's first stage."""
    blocks: list[Count] = [1, 1, 1]
    """Residual blocks per stage; each stage has twice the channels of the one before."""
    model: Annotated[str | None, unless(None)] = None
    """Of the backbones torchvision and timm: the network's name; of timm, transformers and reference: a local folder,
    or a hub id. null = the backbone's own."""
    pretrained: Annotated[bool, unless(True)] = True
    """Start from stored weights, where the backbone has any; false = drawn ones."""
    weights: Annotated[str | None, unless(None)] = None
    """File of weights for the backbones torchvision and timm; null = those that the library has."""
    stem3x3: Annotated[bool, unless(False)] = False
    """ResNets of torchvision: a 3 x 3 stem of stride 1 without pooling (the original study's, for small images)."""
    trainable: Annotated[Literal["all", "none"] | Count, unless("all")] = "all"
    """What SupCon trains: all layers, the last N, or none. none = no SupCon at all, the linear probe alone, on features
    that are made once and kept."""
    layer_decay: Annotated[float, Field(gt=0, le=1), unless(1.0)] = 1.0
    """Factor of the learning rate from each layer of the backbone to the one before it; 1 = the same in all."""
    test_views: Annotated[Literal["none", "flips", "rotations", "auto"], unless("none")] = "none"
    """Views of an image that predictions and features are averaged over, and that the linear probe learns from: the
    image alone; 4 flips; 8 rotations (parts at any angle); auto = the best of these by validation accuracy."""
    embedding: Count = 64
    """Dimensions of the projection head's output."""
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Pixels per side of a view."""
    steps: Count = 300
    """Optimiser steps of SupCon, the same for every setup."""
    anchors: Count = 24
    """In-distribution images per step."""
    synthetic_share: Fraction = 0.5
    """Share of the anchors that are synthetic, where the setup has synthetic positives."""
    negatives: Annotated[int, Field(ge=0)] = 12
    """Negative-only images added to each step, where the setup has any."""
    negative_weight: Annotated[float, Field(ge=0)] = 1.0
    """Lambda, the weight of negative-only images in the loss's denominator."""
    negative_scope: Literal["all", "own", "other"] = "all"
    """The negatives that an anchor meets: all, those of its own class, or those of other classes."""
    negative_use: Annotated[str, member_of(USES), unless("denominator")] = "denominator"
    """What negatives do beside standing in the denominator (negative_weight: 0 takes them out of it): denominator =
    nothing; features = they stand in that of SupCon on the backbone's features too, which kNN sees; instances = they
    are anchors, each a class of its own; outlier_exposure = a linear head, trained with the encoder, is pulled to
    uniform on them; mixoe = the same on their mixtures with in-distribution images; ascood = the same on
    in-distribution images without what makes their class, no negatives."""
    negative_use_weight: Annotated[Positive, unless(0.5)] = 0.5
    """Weight of SupCon on features or on negatives as instances, or of what is pulled to uniform beside the head's
    cross-entropy."""
    head_gradient: Annotated[Fraction, unless(1.0)] = 1.0
    """Uses with a head: share of its gradient that reaches the encoder; 0 = the encoder learns nothing from it."""
    mix_alpha: Annotated[Positive, unless(1.0)] = 1.0
    """Use mixoe: the in-distribution image's share is drawn from Beta(alpha, alpha)."""
    outlier_pixels: Annotated[Fraction, unless(0.2)] = 0.2
    """Use ascood: share of an image's pixels, those of the largest gradient, that are destroyed."""
    outlier_strength: Annotated[Positive, unless(0.3)] = 0.3
    """Use ascood: root mean square of the change of these pixels, in [0, 1] of their range."""
    views: Literal["crops", "augmentation"] = "crops"
    """The second view of an image: another crop, or an augmentation of the same part."""
    augment: Literal["standard", "randaugment", "both"] = "standard"
    """Colours of a view: jitter and grey, RandAugment instead of them, or both."""
    crop: Annotated[float, Field(gt=0, le=1), unless(0.6)] = 0.6
    """Smallest share of an image's area in a view's crop; 1 = all of it, but for the crop's shape (3:4 to 4:3)."""
    jitter: Annotated[float, Field(ge=0, le=2), unless(1.0)] = 1.0
    """Strength of the jitter of brightness, contrast, saturation and hue, as a factor: 1 = 0.4, 0.4, 0.4 and 0.1; 0 =
    none."""
    replace_probability: Fraction = 0.0
    """Probability that a real anchor is replaced by one of its augmentations (DA-Fusion)."""
    temperature: Positive = 0.1
    """Temperature of the SupCon loss."""
    learning_rate: Positive = 1.5e-2
    """Peak learning rate of Muon."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of the optimiser."""
    warmup: Fraction = 0.1
    """Share of the steps in which the learning rate rises."""
    chunk: Count | None = None
    """Views per forward pass (each image has two), as a micro-batch; null = all. Smaller means the same loss in less
    memory, but slower."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward pass; no = float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto = a GPU where there is one."""
    threads: Annotated[Count | None, unless(None)] = None
    """CPU threads of a training; null = one per core. Its last bits depend on it. With fewer than there are cores,
    `partsynth repro` runs trainings side by side."""
    classifier_steps: Count = 300
    """Optimiser steps of the linear probe on the frozen encoder."""
    classifier_learning_rate: Positive = 1e-2
    """Learning rate of the linear probe."""
    eval_every: Count = 100
    """Steps between measurements on validation images."""

    @field_validator("precision", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        return "no" if value is False else value  # a bare ``no`` is YAML's false


NETWORK = ("backbone", "trainable")  # either says that a setup has an encoder of its own
WITH_NETWORK = (
    "width",
    "blocks",
    "model",
    "pretrained",
    "weights",
    "stem3x3",
    "layer_decay",
    "test_views",
    "embedding",
    "size",
    "steps",
    "anchors",
    "classifier_steps",
    "eval_every",
)


class TrainChanges(Train):
    """A part of section train: only the keys that are given count. What makes trainings comparable is refused."""

    @field_validator("precision", "device", "threads", mode="before")
    @classmethod
    def _same_for_all(cls, value: Any) -> Any:
        raise ValueError("must be the same for every setup: set it in section train")

    @model_validator(mode="after")
    def _one_architecture(self) -> TrainChanges:
        lonely = sorted(self.model_fields_set & set(WITH_NETWORK))
        if lonely and not self.model_fields_set & set(NETWORK):
            raise ValueError(
                f"{', '.join(lonely)} must be the same for every setup of one encoder (equal steps, one architecture): "
                f"set it in section train, or name the setup's own {' or '.join(NETWORK)} beside it"
            )
        return self

    @model_serializer(mode="wrap")
    def _given(self, whole: Any) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if key in self.model_fields_set}


class SelectSetup(Section):
    """How one setup uses the set it adds."""

    role: Literal["positive", "negative"] = "positive"
    """What the set's images are: positives of their class, or negatives only."""
    rule: Annotated[str, member_of(RULES)] = "accepted"
    """Which of the set's images are taken; accepted: those that quality did not drop; band: sound images whose drift
    lies within the band; random: sound images of any drift, as many per class as band takes; nobody: sound images
    whose least drift of all classes lies within the band (with quality.all_classes)."""
    band: tuple[Fraction, Fraction] = (0.95, 1.0)
    """Rules band, random and nobody: drift percentile strictly above the first, at most the second."""
    cap: Annotated[float, Field(gt=0)] | None = None
    """Rules band, random and nobody: drift at most this, in class standard deviations."""
    nearest_own: bool = False
    """Take only images whose nearest class is their own."""
    max_per_class: Count | None = None
    """Images per class at most; null = no limit."""
    train: TrainChanges | None = None
    """Keys of section train that this setup changes, e.g. {negative_weight: 0.3}; with backbone or trainable, those
    of an encoder of its own too."""

    def training(self, shared: Train) -> Train:
        """Section train as this setup has it."""
        if self.train is None:
            return shared
        return shared.model_copy(update={key: getattr(self.train, key) for key in self.train.model_fields_set})


class Matrix(Section):
    """Which trainings there are: every setup with every seed. Apart from ``train``, so that one more seed adds runs."""

    setups: list[str] = ["real", "real_id", "real_id_negatives"]
    """Entries of select to train; each is compared with the others."""
    seeds: list[Seed] = [0, 1, 2]

    """Each setup is trained once with each."""
