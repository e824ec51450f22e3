"""What an evaluation found, as types: the content of reports/metrics/summary.json and of a benchmark's JSON.

Figures are fractions, not per cent. ``dump`` gives what is written, ``read_summary`` and ``read_benchmark`` read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from partsynth.errors import UserError
from partsynth.store.files import read_json
from partsynth.store.seal import refuse_changed, unsealed

Effect = Literal["helps", "hurts", "no evidence", "too few to tell", "one seed"]  # the last in older files


class Result(BaseModel):
    """Frozen; keys that a later version added are kept out, so that older readers read newer files."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def dump(self) -> dict[str, Any]:
        """For JSON: what was set, under the keys of the files."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Clusters(Result):
    """What images belong to: so many physical parts, unseen variants, ..."""

    count: int
    of: str  # in words


class Interval(Result):
    """A mean over seeds (fractions, not per cent) with its interval, where anything can be said of its variation."""

    mean: float
    low: float | None = None
    high: float | None = None
    values: list[float] = []  # one per seed
    clusters: list[Clusters] = []  # what the interval is over, beside seeds: other parts would give other figures


class Ends(Result):
    """Of an interval."""

    low: float
    high: float


class Difference(Interval):
    """``setup`` minus ``base`` in one metric, paired over seeds and images."""

    setup: str
    base: str
    metric: str
    p: float | None = None  # two-sided, of there being no difference; by the same variance as the interval
    seeds_alone: Ends | None = None  # the t interval over seeds: of these very test images


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
    """The number of neighbours of the kNN score, and the views of an image, chosen on validation images."""

    k: int
    source: str = Field(alias="from")
    tried: dict[str, float]
    test_views: str = "none"
    views_tried: dict[str, float] = {}  # with train.test_views: auto; views -> accuracy of the linear probe


class HeadlineChoice(Result):
    """The OOD score of the headline figures, chosen on validation images; one for all models, so that they compare."""

    score: str
    source: str = Field(alias="from")
    tried: dict[str, float]  # score -> mean AUROC


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
    headline_score: str = "knn"  # the OOD score of all figures outside ``scores``, and of the ROC curves
    headline_choice: HeadlineChoice | None = None  # with evaluate.headline_score: auto
    choices: dict[str, dict[str, Choice]] = {}  # setup -> seed
    runs: list[EvaluatedRun] = []
    data: Data | None = None
    predictions_sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _once_a_mapping(cls, content: Any) -> Any:
        """Differences stood under "<setup>-<base>" and metric before they were a list."""
        if not isinstance(content, dict) or not isinstance(content.get("differences"), dict):
            return content
        order = content.get("order", [])
        pairs = {f"{a}-{b}": (a, b) for i, a in enumerate(order) for b in order[:i]}
        listed = [
            {"setup": pairs[name][0], "base": pairs[name][1], "metric": metric, **interval}
            for name, found in content["differences"].items()
            if name in pairs
            for metric, interval in found.items()
        ]
        return content | {"differences": listed}

    def difference(self, setup: str, base: str, metric: str) -> Difference | None:
        """``setup`` minus ``base`` in ``metric``; None where it was not measured."""
        wanted = (setup, base, metric)
        return next((d for d in self.differences if (d.setup, d.base, d.metric) == wanted), None)

    def pairs(self) -> list[tuple[str, str]]:
        """(setup, base) of every comparison, each once, in order."""
        return list(dict.fromkeys((d.setup, d.base) for d in self.differences))

    def titles(self) -> dict[str, MetricTitle]:
        return {metric.name: metric for metric in self.metrics}


class Target(Result):
    """What a benchmark aimed for, and whether it was met."""

    setup: str  # of "best": the one that was chosen
    against: str | None = None  # None: aimed for is the setup's figure itself
    measure: str
    mean: float | None  # aimed for: at least
    low: float | None  # aimed for: the interval's lower end, at least
    difference: Interval | None  # found
    met: bool | None  # None where the difference, or its interval, was not measured


class Primary(Result):
    """A hypothesis that was declared before the run, with what was found."""

    question: str
    setup: str
    base: str
    metric: str
    mean: float | None = None  # None where it was not measured
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None  # corrected for all that were declared
    effect: Effect | None = None  # by p_holm


class Best(Result):
    """The main setup that one would take, and the validation figures that say so; test images have no say."""

    setup: str
    source: str = Field(alias="from")
    tried: dict[str, float]  # setup -> accuracy on validation images


class Seconds(Result):
    stages: dict[str, float]  # by stage of dvc.yaml
    total: float


class ReplicateRun(Result):
    """What the figures of one replicate are made of, and what it took."""

    folder: str
    seed: int
    shots: int | None  # training images per class; None where all are used
    git_commit: str | None
    mlflow_runs: dict[str, str]  # setup (with its seed, where there are further initialisations) -> run id
    manifests: dict[str, str]  # file -> sha256
    pictures: dict[str, int]  # by part
    classes: int
    training: dict[str, dict[str, int]]  # as in Data
    choices: dict[str, dict[str, Choice]]  # setup -> seed
    predictions_sha256: str
    files: dict[str, str]  # file -> sha256
    seconds: Seconds


class BenchmarkRun(Result):
    """How a benchmark was run."""

    command: str
    git_commit: str
    partsynth_version: str
    machine: str
    minutes: float
    replicates: list[ReplicateRun]
    planned: int | None = None  # where they were not all done when it was written
    initialisations: int = 1  # of each training; figures are their means


class BenchmarkSummary(Summary):
    """Figures over replicates; all after ``few_shot`` is unset where only the predictions were at hand."""

    few_shot: dict[str, Summary] = {}  # training images per class -> figures of those replicates
    shots_of_all: float = 0  # training images per class, on average, where all are used
    kinds: dict[str, Literal["main", "control", "ablation"]] = {}  # by setup
    compared: list[tuple[str, str]] = []  # (setup, base) in the preset's order
    targets: list[Target] = []
    primary: list[Primary] = []  # all other comparisons are exploratory
    notes: list[str] = []  # the preset's, for the reader of the figures
    best: str = ""
    best_choice: Best | None = None
    predictions: str = ""  # file of predictions, beside the JSON
    benchmark: BenchmarkRun | None = None


def read_summary(path: Path) -> Summary:
    """Read summary.json.

    Raises
    ------
    UserError
        where it is missing, not JSON, or not a summary of this version.
    """
    values = read_json(path)
    if isinstance(values, dict):
        refuse_changed(path, values, "stage evaluate")
        values = unsealed(values)
    return _model(path, values, Summary, "dvc repro evaluate")


def read_benchmark(path: Path) -> BenchmarkSummary:
    """Read a benchmark's JSON.

    Raises
    ------
    UserError
        where it is missing, not JSON, or not of this version.
    """
    return _model(path, read_json(path), BenchmarkSummary, "partsynth benchmark writes it anew")


R = TypeVar("R", bound=Result)


def _model(path: Path, values: Any, kind: type[R], remedy: str) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is no summary of this version ({where}: {first['msg']}): {remedy}") from None
