"""The whole of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import field_validator, model_validator

from partsynth.config.base import NAME, Section, unless
from partsynth.config.benchmark import Benchmark
from partsynth.config.data import Ingest, Ood, Render
from partsynth.config.generation import Base, Calibrate, Diffusion, Generate, Quality, Reference, Tokens
from partsynth.config.sets import AugmentationSet, by_method
from partsynth.config.study import Study
from partsynth.config.training import Evaluate, Matrix, Report, SelectSetup, Train


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
    sets: dict[str, Annotated[AugmentationSet, by_method()]] = {}
    quality: Quality = Quality()
    select: dict[str, SelectSetup] = {}
    matrix: Matrix = Matrix()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    study: Study = Study()
    benchmark: Benchmark = Benchmark()
    launch: Annotated[str, unless("")] = ""
    """What starts several processes for each of the stages tokens, calibrate, generate, quality and evaluate, such as
    ``accelerate launch --multi_gpu --num_processes 2 -m partsynth.cli``; empty = one process. Their products' bytes do
    not depend on it (docs/scaling.md), so DVC does not watch this key. $NAMES in it are the environment's."""

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
    def _nobody_is_measured(self) -> Params:
        wanting = [name for name, setup in self.select.items() if setup.rule == "nobody"]
        if wanting and not self.quality.all_classes:
            raise ValueError(f"select.{wanting[0]}.rule nobody needs drift from all classes: quality.all_classes: true")
        return self

    @model_validator(mode="after")
    def _setups_exist(self) -> Params:
        unknown = [s for s in self.matrix.setups if s not in self.select]
        if unknown:
            raise ValueError(f"matrix.setups names {', '.join(unknown)}; select has {', '.join(self.select) or 'none'}")
        return self
