"""The benchmarks' small parts; the benchmarks themselves take many minutes and are run by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import base_model
import growth
import numpy as np
import probes
import pytest
import torch

ROOT = Path(__file__).parents[1]


def test_arguments() -> None:
    plain = base_model.arguments([])
    assert plain.project == ROOT and plain.base == ROOT / "models/base" and not plain.quick
    chosen = base_model.arguments(["--project", "elsewhere", "--quick", "--threads", "1"])
    assert chosen.project == Path("elsewhere") and chosen.quick and chosen.threads == 1
    with pytest.raises(SystemExit):
        base_model.arguments(["--projects", "typo"])


def test_the_judge_is_used_by_nothing_in_the_package() -> None:
    benchmarks = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} | {"benchmarks"}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0], *(alias.name for alias in node.names)]
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
                assert benchmarks.isdisjoint(names[:1]), path
    assert "benchmarks" not in (ROOT / "dvc.yaml").read_text()


def test_strength_is_chosen_on_corpus_variants_only() -> None:
    from partsynth.rendering import catalog

    corpus = {v.name for v in catalog.corpus_variants()}
    assert set(probes.variant_names()) <= corpus and len(set(probes.variant_names())) == 12
    families = [catalog.variant(*v).family for v in probes.VARIANTS]
    assert {f: families.count(f) for f in families} == dict.fromkeys({t.family for t in catalog.TARGETS}, 3)


def test_the_highest_strength_that_keeps_the_class() -> None:
    def curve(*values: float) -> dict:
        return {s: {"accuracy": v} for s, v in zip((0.0, 0.1, 0.2, 0.3), values, strict=True)}

    assert base_model.highest_kept(curve(1.0, 0.97, 0.95, 0.90)) == 0.2
    assert base_model.highest_kept(curve(1.0, 0.90, 0.96, 0.96)) == 0.0
    assert base_model.highest_kept(curve(1.0, 1.0, 1.0, 0.95)) == 0.3


def test_the_gate_tells_what_it_let_through_from_what_it_dropped(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from PIL import Image

    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import VerdictRecord
    from partsynth.store.hashing import sha256_file

    rows = []
    for i, (shade, verdict) in enumerate([(250, "accept"), (250, "accept"), (5, "accept"), (5, "drop")]):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (64, 64), (shade,) * 3).save(path)
        rows.append(
            VerdictRecord(
                path=path.name,
                sha256=sha256_file(path),
                class_name="bright",
                set_name="id",
                drift=0,
                percentile=0.5,
                calibration_n=1,
                nearest_class="bright",
                class_margin=0,
                sharpness=0,
                brightness=0,
                contrast=0,
                copy_similarity=0,
                verdict=verdict,
                reasons="",
            )
        )
    write_manifest(tmp_path / "data/quality/id.csv", rows, VerdictRecord)
    judge = SimpleNamespace(
        answers=lambda pictures, question: np.where(pictures.mean((1, 2, 3)).numpy() > 0, "bright", "dark")
    )
    settings = SimpleNamespace(sets={"id": None}, diffusion=SimpleNamespace(size=64))
    figures, found = base_model.gate(SimpleNamespace(settings=settings, project=tmp_path, judge=judge))
    assert found["id"] == {
        "all": {"pictures": 4, "kept": 0.5},
        "accepted": {"pictures": 3, "kept": pytest.approx(2 / 3)},
        "dropped": {"pictures": 1, "kept": 0.0},
    }
    assert figures[0].value == "all 50.0 % of 4, accepted 66.7 % of 3, dropped 0.0 % of 1"


def test_psnr_and_ssim() -> None:
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    assert base_model.psnr(picture + 0.02, picture).tolist() == pytest.approx([40.0, 40.0], abs=1e-3)
    assert base_model.ssim(picture, picture).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (base_model.ssim(picture.flip(3), picture) < 0.2).all()


def test_every_miss_is_shown() -> None:
    figures = [
        base_model.Figure("a", ">= 1", "2", True),
        base_model.Figure("b", ">= 1", "0", False, "why"),
        base_model.Figure("c", "", "3", None),
    ]
    text = base_model.markdown(figures, {"command": "x", "commit": "y", "base_sha256": "z" * 64})
    assert "| b | >= 1 | 0 | **miss** |" in text and text.count("miss") == 1 and text.count("pass") == 1
    assert "- b: why" in text


def test_states_asked_for_are_balanced() -> None:
    states = base_model.asked_states(100)
    assert {states.count(s) for s in base_model.STATES} == {20}
    assert len({states[i] for i in range(0, 100, 2)}) == 5


def test_growth_is_told_per_ten_times_as_many_images_and_for_a_million() -> None:
    made = [
        {"step": "select", "storage": kept, "images": n, "seconds": t, "peak_mb": mb, "files": n, "set_mb": 1.0}
        for kept, taken in (("files", (2.0, 11.0, 200.0)), ("shards", (2.0, 10.0, 90.0)))
        for n, t, mb in zip((1_000, 10_000, 100_000), taken, (100, 100, 150), strict=True)
    ]
    told = {(g["storage"], g["from"]): g for g in growth.growth(made, "seconds")}
    assert told["files", 1_000]["time_for_10x"] == 5.5 and told["files", 1_000]["met"]
    assert told["files", 10_000]["time_for_10x"] == 18.18 and not told["files", 10_000]["met"]
    assert told["shards", 10_000]["million_seconds"] == 890 and told["shards", 1_000]["million_seconds"] is None
    assert told["shards", 10_000]["memory"] == 1.5
    shown = growth.table(
        {
            "command": "c",
            "commit": "a",
            "machine": "m",
            "clock": "seconds",
            "results": made,
            "growth": list(told.values()),
        }
    )
    assert "| select | shards | 2.0 / 100 | 10.0 / 100 | 90.0 / 150 | 9.0 x time, 1.5 x memory | 890 s |" in shown
