"""Section benchmark of a preset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from partsynth.config.base import Count, Section, Seed


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
