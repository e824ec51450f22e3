"""Section benchmark: replicates of the whole pipeline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from partsynth.config.base import Count, Section, Seed, member_of
from partsynth.seams import METRICS

BEST = "best"  # in targets: the setup that is chosen on validation images


class BenchmarkSetup(Section):
    """One setup of the benchmark; its rule, role and changes of train stand in ``select``."""

    adds: str
    """What it adds, as the report's sentences name it."""
    kind: Literal["main", "control", "ablation"] = "main"
    """Main ones come first, then controls, then ablations."""
    onto: str | None = None
    """The setup whose table it adds to; null = none."""
    set: str = "real"
    """The augmentation set that it adds; real = the training photographs themselves."""
    against: list[str] = []
    """Setups before it that it is compared with; empty = the one in onto."""

    @property
    def bases(self) -> list[str]:
        """The setups that it is compared with."""
        return self.against or [*filter(None, [self.onto])]


class BenchmarkReplicates(Section):
    """In how many replicates, counted from the first seed on, the setups of each kind run."""

    main: Count = 5
    """Replicates of the main setups."""
    control: Annotated[int, Field(ge=0)] = 3
    """Replicates of controls."""
    ablation: Annotated[int, Field(ge=0)] = 3
    """Replicates of ablations."""


class BenchmarkFewShot(Section):
    """The few-shot curve: whole replicates with few training and validation images."""

    shots: list[Count] = []
    """Training images per class, and as many for validation; each number makes a point of the curve."""
    setups: list[str] = []
    """Setups on the curve."""
    replicates: Count = 3
    """Replicates per point."""


class BenchmarkTarget(Section):
    """What is aimed for, in fractions (0.06 = 6 points); the report says whether it was met."""

    setup: str
    """The setup that should be good; best = the main one that is best on validation images."""
    against: str | None = None
    """The setup that it is compared with; null = its own figure is aimed for, not a difference."""
    measure: Annotated[str, member_of(METRICS)]
    """The metric that is looked at."""
    mean: float | None = None
    """Mean (difference) at least this."""
    low: float | None = None
    """Lower end of its interval at least this."""

    @model_validator(mode="after")
    def _wants(self) -> BenchmarkTarget:
        if self.mean is None and self.low is None:
            raise ValueError("give mean, low, or both")
        return self


class BenchmarkPrimary(Section):
    """A hypothesis that is declared before the run; all of them are corrected together (Holm), all other comparisons
    explore."""

    question: str
    """Its name in the report: id (do good augmentations help), negatives (can bad ones help as negatives)."""
    setup: str
    """The setup that should be better."""
    base: str
    """The setup that it is compared with."""
    metric: Annotated[str, member_of(METRICS)]
    """The metric that is compared."""


class BenchmarkQuick(Section):
    """What `partsynth benchmark --quick` does instead."""

    setups: list[str] = []
    """Setups that run."""
    replicates: Count = 2
    """Replicates of each."""
    shots: list[Count] = []
    """Points of the few-shot curve."""


class Benchmark(Section):
    """Replicates of the whole pipeline (`partsynth benchmark`); a seed redraws images, tokens, sets and training."""

    seeds: list[Seed] = []
    """One per replicate: of renders, splits, shots, tokens, generation and training."""
    setups: dict[str, BenchmarkSetup] = {}
    """Setups in the tables' order: main ones, controls, ablations."""
    replicates: BenchmarkReplicates = BenchmarkReplicates()
    initialisations: Count = 1
    """Trainings of each setup in a replicate, from seeds of their own; the replicate's figures are their means."""
    few_shot: BenchmarkFewShot = BenchmarkFewShot()
    quick: BenchmarkQuick = BenchmarkQuick()
    targets: list[BenchmarkTarget] = []
    """Differences and figures that are aimed for."""
    primary: list[BenchmarkPrimary] = []
    """The hypotheses that the run is to decide."""
    notes: list[str] = []
    """What else a reader of the figures has to know: sentences for the report's page."""

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
        pairs = [(f"targets.{i}", t.setup, t.against) for i, t in enumerate(self.targets)]
        pairs += [(f"primary.{i}", p.setup, p.base) for i, p in enumerate(self.primary)]
        for key, better, base in pairs:
            if base is None and better not in (*names, BEST):
                faults.append(f"{key} names {better!r}; there are {', '.join(names)} and {BEST}")
            elif base is not None and (better not in names or base not in self.setups[better].bases):
                faults.append(f"{key}: {better!r} is not compared with {base!r}")
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
