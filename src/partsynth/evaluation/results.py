"""What an evaluation found, as types: the content of reports/metrics/summary.json and of a benchmark's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from partsynth.errors import UserError
from partsynth.store.files import read_json

Effect = Literal["helps", "hurts", "no evidence", "one seed"]


class Result(BaseModel):
    """Frozen; keys that a later version added are kept out, so that older readers read newer files."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Interval(Result):
    """A mean over seeds (fractions, not per cent) with its t interval; without an interval for a single seed."""

    mean: float
    low: float | None = None
    high: float | None = None
    values: list[float] = []  # one per seed


class Bootstrap(Result):
    """A resampled range: how much a difference depends on the parts (or unseen variants) that were photographed."""

    low: float | None
    high: float | None
    clusters: int
    of: str  # what a cluster is, in words


class Difference(Interval):
    """``setup`` minus ``base`` in one metric, paired over seeds."""

    setup: str
    base: str
    metric: str
    bootstrap: Bootstrap | None = None


class MetricTitle(Result):
    """What to call a metric; a row of tables."""

    name: str
    title: str
    more_is_better: bool | None = None  # None where neither is better by itself


class Sentence(Result):
    """What a change brought in one metric, in words made from the numbers."""

    setup: str
    base: str
    change: str  # what ``setup`` added to ``base``
    metric: str
    effect: Effect
    text: str
    main: bool  # the metric that the change is meant for


class Choice(Result):
    """The number of neighbours of the kNN score, chosen on validation images."""

    k: int
    source: str = Field(alias="from")
    tried: dict[str, float]


class EvaluatedRun(Result):
    """One model that was evaluated."""

    setup: str
    seed: int
    config: dict[str, Any]  # config.json of the model, classes left out
    sha256: dict[str, str]  # file -> hash


class PartSize(Result):
    pictures: int
    classes: int
    groups: int


class Data(Result):
    """On which data."""

    parts: dict[str, PartSize]
    manifests: dict[str, str]  # file -> sha256
    training: dict[str, dict[str, int]]  # setup -> "<origin> <role>" -> images


class Summary(Result):
    """All figures of an evaluation; no ``choices``, ``runs`` and ``data`` where only predictions were at hand."""

    setups: dict[str, dict[str, Interval]]  # setup -> metric -> interval
    differences: list[Difference]
    scores: dict[str, dict[str, Interval]]  # setup -> "<score>/<near|far>_ood_auroc" -> interval
    classes: dict[str, dict[str, dict[str, float]]]  # setup -> part -> class -> accuracy or AUROC
    absent: dict[str, str]  # metric -> why it could not be measured
    seeds: dict[str, list[int]]
    order: list[str]  # of setups, the baseline first
    metrics: list[MetricTitle]
    confidence: float
    verdict: list[Sentence]
    choices: dict[str, dict[str, Choice]] = {}  # setup -> seed
    runs: list[EvaluatedRun] = []
    data: Data | None = None
    predictions_sha256: str = ""

    def difference(self, setup: str, base: str, metric: str) -> Difference | None:
        """``setup`` minus ``base`` in ``metric``; None where it was not measured."""
        wanted = (setup, base, metric)
        return next((d for d in self.differences if (d.setup, d.base, d.metric) == wanted), None)

    def pairs(self) -> list[tuple[str, str]]:
        """(setup, base) of every comparison, each once, in order."""
        return list(dict.fromkeys((d.setup, d.base) for d in self.differences))

    def titles(self) -> dict[str, MetricTitle]:
        return {metric.name: metric for metric in self.metrics}


def read_summary(path: Path) -> Summary:
    """Read summary.json.

    Raises
    ------
    UserError
        where it is missing, not JSON, or not a summary of this version.
    """
    try:
        return Summary.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        fault = f"{path} is no summary of this version ({where}: {first['msg']})"
        raise UserError(f"{fault}: dvc repro evaluate") from None
