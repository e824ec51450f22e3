"""The one reader of params.yaml: frozen, validated sections that carry the stages' names.

A stage loads its own section only, so a fault elsewhere does not stop it; ``load_all`` checks everything at once.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

from partsynth.records import UserError

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """Unknown keys are faults and values never change after loading. (Files are read strictly: see ``_validate``.)"""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RenderInstances(Section):
    """Physical parts a class; each is photographed by two cameras."""

    train: Count = 8
    val: Count = 6
    test: Count = 10
    shifted: Count = 10
    near_val: Count = 12
    near_test: Count = 20
    far_val: Count = 12
    far_test: Count = 25


class Render(Section):
    """The embedded data set of rendered used parts."""

    seed: Seed = 0
    test_seed: Seed | None = None  # seed of the test, shifted and OOD parts, so that they stay as `seed` changes; null = seed
    size: Annotated[int, Field(ge=32, le=512)] = 72  # pixels a side of the raw picture, before the ROI crop
    samples: Annotated[int, Field(ge=1)] = 16  # light paths a pixel; a square number
    instances: RenderInstances = RenderInstances()
    classes: list[str] | None = None  # target classes to render; null = all twelve
    workers: Count | None = None  # processes; null = one a core

    @field_validator("samples")
    @classmethod
    def _square(cls, value: int) -> int:
        if round(value**0.5) ** 2 != value:
            raise ValueError(f"{value} is not a square number (the multijitter sampler needs one: 16, 25, 36, ...)")
        return value


class Ingest(Section):
    """Real photographs in, framed pictures with splits and groups out."""

    source: Literal["rendered", "mvip", "folder"] = "rendered"
    path: str = "data/raw"  # the source folder; absolute, or relative to the repository's root
    size: Annotated[int, Field(ge=16, le=1024)] = 64  # pixels a side of a framed picture
    dilation: Fraction = 0.04  # ROI margin round the mask, as a fraction of the picture's longer side
    masks: Literal["required", "optional", "none"] = "required"
    unmasked: Literal["whole", "centre"] = "whole"  # without a mask: the frame widened to a square, or its middle square
    classes: list[str] | None = None  # null = every class found
    super_class: str | None = None  # mvip: keep the classes of this super-class only (e.g. CarComponent)
    group_pattern: str | None = None  # folder: regular expression over "<class>/<file>"; its first group names the spot
    fractions: dict[Literal["train", "val", "test"], Fraction] = {"train": 0.6, "val": 0.2, "test": 0.2}  # of groups
    shots: Count | None = None  # training pictures a class, drawn by group; null = all
    val_shots: Count | None = None  # the same for validation pictures, which thresholds are made of
    min_per_class: Count = 3  # in the training split
    on_bad: Literal["fail", "skip"] = "fail"  # unreadable pictures, missing masks: one error, or skipped and listed
    near_duplicate: Annotated[int, Field(ge=0, le=64)] = 2  # bits of perceptual hash apart, at most, across splits
    on_duplicate: Literal["fail", "warn"] = "fail"  # exact or near duplicates across splits
    seed: Seed = 0  # draws splits and shots

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups < 1:
                raise ValueError("needs at least one (group) that names the spot")
        return value

    @field_validator("fractions")
    @classmethod
    def _whole(cls, value: dict[str, float]) -> dict[str, float]:
        if set(value) != {"train", "val", "test"} or abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError("needs train, val and test, summing to 1")
        return value


class Ood(Section):
    """Out-of-distribution classes for a source that brings none."""

    holdout_classes: list[str] = []  # classes kept out of training; their pictures become near-OOD


class Base(Section):
    """Training of the embedded Stable Diffusion and reference encoder (frozen stage)."""

    seed: Seed = 0
    images: Count = 20000
    size: Count = 64  # pixels a side
    vae_images: Count = 7500  # the corpus' first pictures, enough for the VAE
    vae_steps: Count = 8000
    vae_batch_size: Count = 64
    unet_steps: Count = 24000
    batch_size: Count = 512  # of the U-Net
    reference_steps: Count = 4000
    reference_tune_steps: Count = 800  # with pictures through the VAE and in training's views ...
    reference_tune_images: Count = 10000  # ... of the corpus' first
    caption_dropout: Fraction = 0.1
    ema: Fraction = 0.9995
    workers: Count | None = None


class Diffusion(Section):
    """Which Stable Diffusion 1.x/2.x makes the pictures."""

    model: str = "models/base"  # a local folder in diffusers' format, or a hub id
    revision: str | None = None  # of a hub id
    size: Annotated[int, Field(ge=32, le=1024)] = 64  # pixels a side the model works at; a multiple of 8
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("size")
    @classmethod
    def _multiple(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is not a multiple of 8")
        return value


class Reference(Section):
    """The frozen feature extractor that measures drift; never one of the classifiers under test."""

    model: str = "models/base/reference_encoder"  # embedded encoder's folder, or DINOv2/CLIP: a folder or hub id
    revision: str | None = None
    batch_size: Count = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Tokens(Section):
    """Textual inversion: one token of several vectors a class."""

    vectors: Annotated[int, Field(ge=1, le=32)] = 4
    init_word: str = "part"  # the vectors start from this word's embedding (the mean of its pieces) ...
    init_words: dict[str, str] = {}  # ... or, for classes that match a pattern (gear_*: gear), from this one's
    steps: Count = 400  # optimiser steps, all classes together in each
    batch_size: Count = 4  # pictures a class a step
    learning_rate: Positive = 5e-3
    warmup: Annotated[int, Field(ge=0)] = 20  # steps
    flips: bool = True  # mirrored latents count as further pictures
    templates: list[str] = ["a photo of a {state} {token}"]  # {state} becomes the picture's own state word or nothing
    seed: Seed = 0

    @field_validator("templates")
    @classmethod
    def _has_token(cls, value: list[str]) -> list[str]:
        if not value or any("{token}" not in t for t in value):
            raise ValueError("every template needs {token}")
        return value


class Calibrate(Section):
    """Search of each class's strength, by bisection on a few edits, for the sets with strength: auto."""

    sources: Count = 6  # training pictures a class that are edited in each round; drawn by generate.seed
    rounds: Count = 6  # bisection steps, all classes together; each halves what is between min and max
    min: Fraction = 0.02  # smallest strength tried
    max: Fraction = 0.95  # largest strength tried

    @model_validator(mode="after")
    def _rising(self) -> Calibrate:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} is not below max {self.max}")
        return self


class Generate(Section):
    """What all augmentation sets share."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 25  # DDIM steps of the whole schedule; SDEdit runs strength x steps
    batch_size: Count = 32  # fixed shape: the last batch is padded
    template: str = "a photo of a {state} {token}"
    max_sources: Count | None = None  # training pictures a class; null = all
    seed: Seed = 0

    @field_validator("template")
    @classmethod
    def _has_token(cls, value: str) -> str:
        if "{token}" not in value:
            raise ValueError("needs {token}: the learned token must be in the prompt")
        return value


class AugmentationSet(Section):
    """One augmentation set (an entry of ``sets``)."""

    strength: Fraction | list[Fraction] | Literal["auto"]  # of the noise schedule: 0 = VAE round trip only, 1 = from pure noise; auto = a class's own, by stage calibrate
    target: tuple[Fraction, Fraction] = (0.95, 1.0)  # strength auto: wanted percentiles of drift among real validation pictures, above the first, at most the second
    cap: Positive | None = None  # strength auto: drift at most this, in class standard deviations; null = search as far beyond the target's first as real pictures' median to 95th percentile
    variants: Annotated[int, Field(ge=0)] = 2  # pictures a source
    guidance: Annotated[float, Field(ge=0, le=50)] = 4.0  # classifier-free guidance scale
    states: list[str] = ["used", "rusty", "dirty", "broken", "brand new"]  # state words, drawn by seed
    token_noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # sigma added to the token's vectors (DIAGen)
    masked: bool = False  # edit the part alone, keep the background
    restore: Fraction = 0.0  # of the source's detail that the VAE loses (source less its round trip), put back into the edit; for low strengths, where detail still fits

    @field_validator("strength")
    @classmethod
    def _some(cls, value: float | list[float]) -> float | list[float]:
        if isinstance(value, list) and not value:
            raise ValueError("an empty list of strengths")
        return value

    @field_validator("target")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError(f"the lower end {value[0]} is not below the upper end {value[1]}")
        return value


class Quality(Section):
    """Which pictures drifted too far, or are no pictures."""

    neighbours: Count = 3  # real parts averaged in the distance to a class
    calibration: Literal["views", "pictures"] = "views"  # real validation pictures: each through one of training's views, or as it is
    accept_percentile: Fraction = 0.95  # of the calibration's drift: what lies beyond it is flagged
    sharpness_ratio: Annotated[float, Field(ge=0)] = 0.25  # of the real pictures' lower quantile
    brightness_margin: Annotated[float, Field(ge=0)] = 0.15  # outside the real pictures' range, of [0, 1]
    min_contrast: Annotated[float, Field(ge=0)] = 0.02  # standard deviation of luminance, of [0, 1]
    copy_similarity: Fraction = 0.995  # correlation with its own source above which it is a copy
    on_flagged: Literal["warn", "drop", "fail"] = "drop"
    max_flagged: Fraction = 0.5  # share of a set that may be flagged before the Great Expectations suite fails


class Train(Section):
    """SupCon, then a linear classifier on the frozen encoder."""

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
        "width", "blocks", "embedding", "size", "steps", "anchors", "classifier_steps", "eval_every", "precision",
        "device", mode="before",
    )  # fmt: skip
    @classmethod
    def _same_for_all(cls, value: Any) -> Any:
        raise ValueError("must be the same for every setup (equal steps, one architecture): set it in section train")

    @model_serializer(mode="wrap")
    def _given(self, whole: Any) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if key in self.model_fields_set}


class SelectSetup(Section):
    """How one setup uses the set it adds."""

    role: Literal["positive", "negative"] = "positive"
    rule: Literal["all", "accepted", "band", "random"] = "accepted"  # random: as many a class as band, of any drift
    band: tuple[Fraction, Fraction] = (0.95, 1.0)  # rules band and random: percentile strictly above the first, at most the second
    cap: Annotated[float, Field(gt=0)] | None = None  # rules band and random: drift at most this, in class standard deviations
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

    headline_score: Literal["knn"] = "knn"  # predeclared
    k: list[Count] = [1, 3, 5, 10]  # kNN neighbours to choose from on OOD-validation
    id_recall: Fraction = 0.95  # FPR@95
    confidence: Fraction = 0.95  # of the intervals over seeds
    batch_size: Count = 256


class Report(Section):
    """The page for people."""

    title: str = "Do good augmentations help, and can bad ones help as negatives?"
    sheet_pictures: Count = 24  # pictures a contact sheet


class StudySpace(Section):
    """Ranges that a study searches; ends included; null keeps the value of ``train`` (or ``select``)."""

    temperature: tuple[Positive, Positive] | None = (0.03, 0.5)  # logarithmic
    learning_rate: tuple[Positive, Positive] | None = (2e-3, 5e-2)  # logarithmic, of Muon
    synthetic_share: tuple[Fraction, Fraction] | None = (0.0, 0.9)  # where the setup has synthetic positives
    negatives_per_anchor: tuple[Fraction, Fraction] | None = (0.0, 1.0)  # where the setup has negatives
    negative_weight: tuple[Positive, Positive] | None = (0.1, 4.0)  # lambda, logarithmic; where it has negatives
    band: tuple[Fraction, Fraction] | None = (0.5, 1.0)  # both limits lie in it; where the setup's rule is band

    @field_validator("*")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"the lower end {value[0]} is not below the upper end {value[1]}")
        return value


class Study(Section):
    """Optuna over temperature, learning rate, mix ratios, lambda and the negatives' band."""

    name: str = "partsynth"
    setup: str = "real_id_negatives"
    mode: Literal["constrained", "pareto"] = "constrained"
    trials: Count = 20  # COMPLETE ones; pruned and failed ones come on top
    min_ood_auroc: Fraction = 0.5  # constrained: near-OOD AUROC on validation at least this
    max_drift: Fraction = 1.0  # constrained: mean drift percentile of a step's anchors (a real picture's is 0) at most this
    storage: str = ".work/study.journal"  # a journal file, or an Optuna RDB URL (postgresql://...)
    seed: Seed = 0
    heartbeat: Count = 15  # seconds; of an RDB: a trial silent for three of them is given to another worker
    space: StudySpace = StudySpace()


class BenchmarkSetup(Section):
    """One setup of the benchmark; its rule, role and overrides stand in ``select``."""

    adds: str  # what it adds, as the report's sentences name it
    kind: Literal["main", "control", "ablation"] = "main"
    onto: str | None = None  # the setup whose table it adds to; null = none
    set: str = "real"  # the augmentation set it adds; real = the training photographs themselves
    against: list[str] = []  # setups before it that it is compared with; empty = onto

    @property
    def bases(self) -> list[str]:
        """The setups that it is compared with."""
        return self.against or [*filter(None, [self.onto])]


class BenchmarkReplicates(Section):
    """In how many replicates, counted from the first seed on, the setups of each kind run."""

    main: Count = 5
    control: Annotated[int, Field(ge=0)] = 3
    ablation: Annotated[int, Field(ge=0)] = 3


class BenchmarkFewShot(Section):
    """The few-shot curve: whole replicates whose training and validation pictures are few."""

    shots: list[Count] = []  # training, and as many validation, pictures a class
    setups: list[str] = []
    replicates: Count = 3


class BenchmarkTarget(Section):
    """A difference that is aimed for, in fractions (0.06 = 6 points); the report says whether it was met."""

    setup: str
    against: str
    measure: Literal["accuracy_test", "accuracy_shifted", "near_ood_auroc", "far_ood_auroc"]
    mean: float | None = None  # at least
    low: float | None = None  # the interval's lower end, at least

    @model_validator(mode="after")
    def _wants(self) -> BenchmarkTarget:
        if self.mean is None and self.low is None:
            raise ValueError("give mean, low, or both")
        return self


class BenchmarkQuick(Section):
    """What `partsynth benchmark --quick` does instead."""

    setups: list[str] = []
    replicates: Count = 2
    shots: list[Count] = []


class Benchmark(Section):
    """Replicates of the whole pipeline: `partsynth benchmark`. Each seed redraws pictures, tokens, sets and training."""

    seeds: list[Seed] = []  # one a replicate: of renders, splits, shots, tokens, generation and training
    setups: dict[str, BenchmarkSetup] = {}  # in the tables' order: main ones, controls, ablations
    replicates: BenchmarkReplicates = BenchmarkReplicates()
    few_shot: BenchmarkFewShot = BenchmarkFewShot()
    quick: BenchmarkQuick = BenchmarkQuick()
    targets: list[BenchmarkTarget] = []

    @model_validator(mode="after")
    def _fits(self) -> Benchmark:
        faults, names, counts = [], list(self.setups), self.replicates
        for i, (name, setup) in enumerate(self.setups.items()):
            for other in [*filter(None, [setup.onto]), *setup.against]:
                if other not in names[:i]:
                    before = ", ".join(names[:i]) or "none"
                    faults.append(f"setups.{name} names {other!r}; the setups before it are {before}")
        kinds = [setup.kind for setup in self.setups.values()]
        if kinds != sorted(kinds, key=("main", "control", "ablation").index):
            faults.append("setups: first the main ones, then controls, then ablations")
        for key, listed in (("few_shot", self.few_shot.setups), ("quick", self.quick.setups)):
            faults += [f"{key}.setups names {s!r}; there are {', '.join(names)}" for s in listed if s not in names]
        for i, target in enumerate(self.targets):
            setup = self.setups.get(target.setup)
            if setup is None or target.against not in setup.bases:
                faults.append(f"targets.{i}: {target.setup!r} is not compared with {target.against!r}")
        if self.few_shot.shots and not self.few_shot.setups:
            faults.append("few_shot.shots needs few_shot.setups")
        if len(set(self.seeds)) != len(self.seeds):
            faults.append(f"seeds {self.seeds}: each stands for one replicate, so each once")
        most = max(counts.main, counts.control, counts.ablation, self.few_shot.replicates, self.quick.replicates)
        if self.setups and (most > counts.main or most > len(self.seeds)):
            faults.append(f"{most} replicates wanted, with {len(self.seeds)} seeds and replicates.main {counts.main}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class Params(Section):
    """The whole of params.yaml."""

    render: Render = Render()
    ingest: Ingest = Ingest()
    ood: Ood = Ood()
    base: Base = Base()
    diffusion: Diffusion = Diffusion()
    reference: Reference = Reference()
    tokens: Tokens = Tokens()
    calibrate: Calibrate = Calibrate()
    generate: Generate = Generate()
    sets: dict[str, AugmentationSet] = {}
    quality: Quality = Quality()
    select: dict[str, SelectSetup] = {}
    matrix: Matrix = Matrix()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    study: Study = Study()
    benchmark: Benchmark = Benchmark()

    @field_validator("sets", "select")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        bad = [k for k in value if not NAME.match(k)]
        if bad:
            raise ValueError(f"{', '.join(map(repr, bad))}: names are letters, digits, '_' and '-'")
        return value

    @model_validator(mode="after")
    def _benchmark_exists(self) -> Params:
        for name, setup in self.benchmark.setups.items():
            if name not in self.select:
                raise ValueError(f"benchmark.setups.{name} has no entry in select; it has {', '.join(self.select)}")
            if setup.set != "real" and setup.set not in self.sets:
                raise ValueError(
                    f"benchmark.setups.{name}.set is {setup.set!r}; sets has {', '.join(self.sets) or 'none'}, or: real"
                )
        return self

    @model_validator(mode="after")
    def _setups_exist(self) -> Params:
        unknown = [s for s in self.matrix.setups if s not in self.select]
        if unknown:
            raise ValueError(f"matrix.setups names {', '.join(unknown)}; select has {', '.join(self.select) or 'none'}")
        return self


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in a project folder, or make one with `partsynth init`") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping of sections")
    return loaded


def load_all(path: Path = Path("params.yaml")) -> Params:
    """Every section, with all faults named at once."""
    return _validate(Params, read_yaml(path), path, "")


def load(section: str, path: Path = Path("params.yaml")) -> Any:
    """One section (``train``) or one entry of a mapping section (``sets.id``), its own faults alone reported."""
    head, _, entry = section.partition(".")
    raw = read_yaml(path)
    if head not in Params.model_fields:
        raise UserError(f"no section {head!r}; there are {', '.join(Params.model_fields)}")
    value = raw.get(head, {})
    kinds: dict[str, type[Section]] = {"sets": AugmentationSet, "select": SelectSetup}
    if not entry:
        if head in kinds:
            return {name: load(f"{head}.{name}", path) for name in value}
        return _validate(Params.model_fields[head].annotation, value, path, head)
    if not isinstance(value, dict) or entry not in value:
        raise UserError(f"{path}: {head} has no entry {entry!r}; it has {', '.join(value) or 'none'}")
    return _validate(kinds[head], value[entry] or {}, path, section)


def _validate(kind: type[Section], value: Any, path: Path, where: str) -> Any:
    """Validate strictly, as JSON: no text or truth value is taken for a number, while a list may fill a tuple."""
    value = {} if value is None else value
    try:
        return kind.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for fault in error.errors():
            key = ".".join([*([where] if where else []), *_keys(value, fault["loc"])])
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = "unknown key" + _did_you_mean(kind, fault["loc"])
            elif fault["type"] == "missing":
                message = "is required"
            elif fault["type"] != "value_error":
                message = f"{_plain_words(message)} (found {_found(fault['input'])})"
            faults.setdefault(key, []).append(message)
        lines = [f"{key}: {', or '.join(messages)}".removeprefix(": ") for key, messages in faults.items()]
        raise UserError(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from None


def _plain_words(message: str) -> str:
    words = {"Input should": "should", "valid array": "list", "an object": "a mapping", "valid integer": "whole number"}
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return message


def _found(value: Any) -> str:
    text = json.dumps(value, default=str)
    try:
        number = isinstance(value, str) and float(value)
    except ValueError:
        number = False
    return f"the text {text}; numbers go without quotes, and 5e-4 is written 5.0e-4" if number is not False else text


def _keys(value: Any, location: tuple[Any, ...]) -> list[str]:
    """The parts of a fault's location that are keys in the file; pydantic puts the members of a union between them."""
    keys = []
    for n, part in enumerate(location):
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif isinstance(value, dict) and (part in value or n == len(location) - 1):
            value = value.get(part)
        elif isinstance(value, dict | list) or value is not None:
            continue
        keys.append(str(part))
    return keys


def _did_you_mean(kind: Any, location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        fields = getattr(kind, "model_fields", {})
        if part in fields:
            kind = fields[part].annotation
            kind = next((k for k in get_args(kind) if hasattr(k, "model_fields")), kind) if type(kind) is UnionType else kind
        elif str(kind).startswith("dict["):
            kind = kind.__args__[1]
    allowed = list(getattr(kind, "model_fields", {}))
    if str(kind).startswith("dict["):
        allowed = list(getattr(kind.__args__[1], "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    return (f", did you mean {close[0]}" if close else "") + (f". Allowed: {', '.join(allowed)}" if allowed else "")
