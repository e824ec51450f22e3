"""The benchmark's page: every number and sentence from its summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.replicates import small_report

from partsynth.errors import UserError
from partsynth.evaluation.format import estimate, points
from partsynth.evaluation.predictions import recompute
from partsynth.evaluation.results import BenchmarkSummary, read_benchmark
from partsynth.reporting.benchmark import curve, page
from partsynth.reporting.benchmark_figure import picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_report(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="module")
def summary(out: Path) -> BenchmarkSummary:
    return read_benchmark(out / "small.json")


def test_the_page_tells_what_the_numbers_say(out: Path, summary: BenchmarkSummary) -> None:
    text = (out / "small.md").read_text()
    assert text == page(summary, "small")
    main = [s for s in summary.verdict if s.main and summary.kinds[s.setup] == "main"]
    assert {(s.setup, s.base, s.metric) for s in main} >= {
        ("real_id", "real", "accuracy_shifted"),
        ("real_neg", "real_id", "near_ood_auroc"),
    }
    assert all(f"**{s.text}**" in text for s in main)
    assert "VAE round trips instead of ID augmentations changed shifted accuracy" in text
    for head in ("## Setups", "## Controls", "## By the number of photographs"):
        assert head in text
    assert "## Ablations" not in text
    assert "7.0 minutes" not in text and "7 minutes of work" in text
    assert summary.predictions_sha256 in text and "OOD *validation*" in text
    row = next(line for line in text.splitlines() if line.startswith("| 16 | `real_id` | 3 |"))
    assert estimate(summary.setups["real_id"]["accuracy_shifted"]) in row
    difference = summary.difference("real_vae", "real_id", "accuracy_shifted")
    row = next(line for line in text.splitlines() if line.startswith("| `real_vae` minus `real_id` |"))
    assert difference is not None and estimate(difference, points) in row


def test_every_table_has_one_number_of_columns(out: Path) -> None:
    tables = (out / "small.md").read_text().split("\n\n")
    found = [block.strip().splitlines() for block in tables if block.strip().startswith("|")]
    assert len(found) >= 6
    for lines in found:
        assert len({line.count("|") for line in lines}) == 1 and set(lines[1]) == set("| -")
    assert "\n\n\n" not in (out / "small.md").read_text()


def test_targets_stand_on_the_page(out: Path) -> None:
    rows = (out / "small.md").read_text().partition("## Targets")[2].splitlines()[2:7]
    assert rows[2].endswith("| met |") and rows[3].endswith("| **missed** |")
    assert "| mean at least −100, lower end at least −900 |" in rows[2]


def test_whole_replicates_have_their_place_on_the_curve(summary: BenchmarkSummary) -> None:
    assert list(curve(summary)) == [1.0, 4.0, 16.0] and curve(summary)[16.0] is summary
    fewer = summary.model_copy(update={"shots_of_all": 2.0})
    assert list(curve(fewer)) == [1.0, 2.0, 4.0] and curve(fewer)[2.0] is fewer
    assert curve(summary.model_copy(update={"few_shot": {}})) == {}


def test_the_picture_is_the_same_bytes_again(out: Path, summary: BenchmarkSummary) -> None:
    assert picture(summary) == (out / "small.png").read_bytes()
    assert picture(summary.model_copy(update={"few_shot": {}})).startswith(b"\x89PNG")


def test_predictions_alone_have_no_page(out: Path) -> None:
    again = recompute(out / "small-predictions.csv.gz")
    assert isinstance(again, BenchmarkSummary)
    with pytest.raises(UserError, match="predictions alone"):
        page(again, "small")


@pytest.mark.parametrize("stem", ["benchmark", "benchmark-photos"])
def test_committed_reports_of_earlier_versions_are_still_read(stem: str) -> None:
    text = page(read_benchmark(ROOT / f"reports/{stem}.json"), stem)
    assert "## Setups" in text and " minus " in text
