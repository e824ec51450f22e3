"""Which replicates there are, and their parameters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from helpers.replicates import SETUPS, SMALL, VARIED, loaded

from partsynth.benchmark import plan
from partsynth.benchmark.plan import Replicate, parameters
from partsynth.benchmark.project import read_preset
from partsynth.config.load import load_all, read_yaml
from partsynth.errors import UserError
from partsynth.project.dvcfile import graph_for, with_setups
from partsynth.project.given import Photographs
from partsynth.store.layout import NO_REVIEW

ROOT = Path(__file__).parents[2]


def test_replicates_are_planned_in_order(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    every, main, few = tuple(SETUPS), ("real", "real_id", "real_neg"), ("real", "real_id")
    assert plan.plan(settings, quick=False) == [
        Replicate("all-seed5", 5, None, every),
        Replicate("all-seed3", 3, None, every),
        Replicate("all-seed9", 9, None, main),
        Replicate("shots1-seed5", 5, 1, few),
        Replicate("shots1-seed3", 3, 1, few),
        Replicate("shots4-seed5", 5, 4, few),
        Replicate("shots4-seed3", 3, 4, few),
    ]
    assert plan.plan(settings, quick=False, main=True) == [
        Replicate("all-seed5", 5, None, main),
        Replicate("all-seed3", 3, None, main),
        Replicate("all-seed9", 9, None, main),
    ]
    assert plan.plan(settings, quick=True) == [
        Replicate("quick-all-seed5", 5, None, few),
        Replicate("quick-all-seed3", 3, None, few),
    ]


def test_initialisations_are_seeds_of_the_same_draw(tmp_path: Path) -> None:
    settings = loaded(tmp_path, initialisations=3)
    first = plan.plan(settings, quick=False)[0]
    assert first.seeds == [5, 1005, 2005]
    made = parameters(SMALL, settings, first)
    assert made["matrix"]["seeds"] == first.seeds
    assert {made[section]["seed"] for section in ("render", "ingest", "tokens", "generate")} == {5}


def test_a_replicates_parameters_carry_its_seed_and_only_what_its_setups_need(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    raw = read_yaml(tmp_path / "params.yaml")
    made = parameters(raw, settings, Replicate("x", 7, 4, ("real_neg",)))
    assert [made[s]["seed"] for s in ("render", "ingest", "tokens", "generate")] == [7] * 4
    assert made["render"]["size"] == 32
    assert made["matrix"] == {"setups": ["real_neg"], "seeds": [7]}
    assert (made["ingest"]["shots"], made["ingest"]["val_shots"]) == (4, 4)
    assert list(made["select"]) == ["real", "real_id", "real_neg"] and list(made["sets"]) == ["id", "near_ood"]
    assert "benchmark" not in made and "study" not in made
    assert made["quality"] == {}  # DVC wants what dvc.yaml names
    whole = parameters(raw, settings, Replicate("x", 7, None, ("real",)))
    assert "shots" not in whole["ingest"] and whole["sets"] == {}
    assert raw == read_yaml(tmp_path / "params.yaml")  # what it was made from is as it was


def test_a_projects_graph_has_the_setups_of_its_replicate(tmp_path: Path) -> None:
    graph = yaml.safe_load(graph_for(loaded(tmp_path), ["real", "real_id", "real_vae"]))
    assert graph["stages"]["select"]["foreach"] == {
        "real": {
            "onto": "data/real/train",
            "manifest": "data/real/manifest.csv",
            "verdicts": "data/real/val",
            "review": NO_REVIEW,
        },
        "real_id": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/id/manifest.csv",
            "verdicts": "data/quality/id.csv",
            "review": NO_REVIEW,
        },
        "real_vae": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/vae/manifest.csv",
            "verdicts": "data/quality/vae.csv",
            "review": NO_REVIEW,
        },
    }
    shipped = (ROOT / "dvc.yaml").read_text()
    repository = yaml.safe_load(shipped)["stages"]["select"]["foreach"]
    chain = {"real": (None, "real"), "real_id": ("real", "id"), "real_id_negatives": ("real_id", "near_ood")}
    assert yaml.safe_load(with_setups(shipped, chain))["stages"]["select"]["foreach"] == repository


def test_sentences_name_what_was_added_or_exchanged(tmp_path: Path) -> None:
    assert plan.changes(loaded(tmp_path)) == {
        ("real_id", "real"): ("ID augmentations", "positive"),
        ("real_neg", "real_id"): ("Band negatives", "negative"),
        ("real_vae", "real"): ("VAE round trips", "positive"),
        ("real_vae", "real_id"): ("VAE round trips instead of ID augmentations", "positive"),
    }
    varied = SMALL | {"select": SMALL["select"] | {"varied": {"role": "negative", "train": {"negative_weight": 3.0}}}}
    varied["benchmark"] = SMALL["benchmark"] | {"setups": SETUPS | {"varied": VARIED}}
    (tmp_path / "varied.yaml").write_text(yaml.safe_dump(varied, sort_keys=False))
    found = plan.changes(load_all(tmp_path / "varied.yaml"))
    assert found["varied", "real_neg"] == ("Lambda 3", "negative") == found["varied", "real_id"]
    varied["benchmark"]["setups"] |= {"real_id": SETUPS["real_id"] | {"adds": "A set of edits"}}
    (tmp_path / "varied.yaml").write_text(yaml.safe_dump(varied, sort_keys=False))
    other = plan.changes(load_all(tmp_path / "varied.yaml"))
    assert other["real_vae", "real_id"][0] == "VAE round trips instead of a set of edits"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"setups": SETUPS | {"real": {"adds": "x", "onto": "real_id"}}}, "setups.real names 'real_id'"),
        (
            {"setups": {"real_vae": SETUPS["real_vae"] | {"against": [], "onto": None}, "real": SETUPS["real"]}},
            "first the main",
        ),
        (
            {"setups": {"real": {"adds": "x", "set": "ids"}}, "few_shot": {}, "quick": {}, "targets": []},
            "setups.real.set is 'ids'; sets has id",
        ),
        (
            {"setups": {"reel": {"adds": "x"}}, "few_shot": {}, "quick": {}, "targets": []},
            "benchmark.setups.reel has no entry in select",
        ),
        (
            {"targets": [{"setup": "real", "against": "real_id", "measure": "accuracy_test", "mean": 0}]},
            "not compared with 'real_id'",
        ),
        ({"targets": [{"setup": "real_id", "against": "real", "measure": "accuracy_test"}]}, "give mean, low, or both"),
        ({"few_shot": {"setups": ["reel"]}}, "few_shot.setups names 'reel'"),
        ({"few_shot": {"shots": [1]}}, "few_shot.shots needs few_shot.setups"),
        ({"seeds": [1, 1, 2]}, "each once"),
        ({"seeds": [1, 2]}, "3 replicates wanted, with 2 seeds"),
    ],
)
def test_a_benchmark_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, text: str) -> None:
    with pytest.raises(UserError, match=re.escape(text)):
        loaded(tmp_path, **changes)


def test_photographs_are_named_in_every_replicate(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("data", "shifted", "far")}
    preset = read_preset("benchmark-photos", Photographs(**places))
    made = parameters(preset.raw, preset.params, Replicate("x", 7, None, ("real",)))
    assert made["ingest"]["path"] == str(places["data"]) and made["ingest"]["shifted"] == str(places["shifted"])
    assert made["ood"]["far"] == str(places["far"]) and made["ood"]["holdout_classes"]
    assert list(preset.params.benchmark.setups) == ["real", "real_id", "real_id_negatives", "real_id_fixed"]
    with pytest.raises(UserError, match="renders its own images: leave out --data, --far"):
        read_preset("benchmark", Photographs(data=places["data"], far=places["far"]))


def test_other_groups_and_held_out_classes_make_a_preset_one_of_other_photographs(tmp_path: Path) -> None:
    own = read_preset("benchmark-coins", Photographs(data=tmp_path))
    other = read_preset("benchmark-coins", Photographs(data=tmp_path, held_out=("bolt",), group_pattern=r"/(\d+)_"))
    assert (other.params.ood.holdout_classes, other.params.ingest.group_pattern) == (["bolt"], r"/(\d+)_")
    assert own.params.benchmark.targets and not other.params.benchmark.targets  # those are of the coins
    for preset in (own, other):
        del preset.raw["ood"]["holdout_classes"], preset.raw["ingest"]["group_pattern"]
        preset.raw["benchmark"].pop("targets", None)
    assert own.raw == other.raw
