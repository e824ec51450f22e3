"""dvc.yaml of a project: the repository's without its code, and what it always was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from partsynth.config.load import load_all
from partsynth.project.code import STAMP
from partsynth.project.dvcfile import graph_for, project_dvc_yaml, watching, with_setups
from partsynth.project.shipped import presets
from partsynth.store.yaml_text import parsed, written

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = presets()["photographs"]
BEFORE = yaml.safe_load((Path(__file__).parent / "graphs.yaml").read_text())


def before(preset: str) -> dict:
    """The parsed dvc.yaml that init wrote from a preset before this package had rooms."""
    told, graph = (
        BEFORE["presets"][preset],
        copy.deepcopy({key: BEFORE[key] for key in ("stages", "plots", "artifacts")}),
    )
    stages = graph["stages"]
    if not told["render"]:
        del stages["render"]
    if not told["base_model"]:
        for stage in stages.values():
            step = stage.get("do", stage)
            step["deps"] = [dep for dep in step["deps"] if dep != "models/base"]
        del graph["artifacts"]["base-model"]
    stages["select"]["foreach"] = told.get("select", stages["select"]["foreach"])
    with_reviews(stages["select"], stages["report"])
    with_adaptation(stages, told["base_model"])
    with_card(stages["report"])
    return graph


def with_adaptation(stages: dict, base_model: bool) -> None:
    """What stage adapt added since."""
    stages["adapt"] = {
        "cmd": "partsynth adapt --real data/real --out models/adapted",
        "params": [{STAMP: ["code.adapt"]}, "diffusion"],
        "deps": ["data/real", *(["models/base"] if base_model else [])],
        "outs": [{"models/adapted": {"persist": True}}],
    }
    for name, before in (
        ("tokens", "data/real"),
        ("calibrate", "data/real"),
        ("generate", "data/strengths/${key}.json"),
    ):
        deps = stages[name].get("do", stages[name])["deps"]
        deps.insert(deps.index(before) + 1, "models/adapted")
    report = stages["report"]
    report["cmd"] = report["cmd"].replace(" --out", " --adapted models/adapted --out")
    report["deps"].insert(report["deps"].index("reports/metrics"), "models/adapted")


def with_card(report: dict) -> None:
    """What the data card added since."""
    report["cmd"] = report["cmd"].replace(" --out", " --card data/card.yaml --out")
    report["deps"].insert(report["deps"].index("data/augmented") + 1, "data/card.yaml")


def with_reviews(select: dict, report: dict) -> None:
    """What people's decisions added since: each setup names a table of them, and the report reads all."""
    for entry in select["foreach"].values():
        entry["review"] = "data/review/none.csv"
    step = select["do"]
    step["cmd"] = step["cmd"].replace(" --real", " --review ${item.review} --real")
    step["deps"].append("${item.review}")
    report["cmd"] = report["cmd"].replace(" --studies", " --review data/review --studies")
    report["deps"].insert(report["deps"].index("data/real") + 1, "data/review")


@pytest.mark.parametrize("preset", sorted(presets().keys() & BEFORE["presets"].keys()))
def test_a_projects_graph_is_what_it_was(preset: str) -> None:
    assert yaml.safe_load(graph_for(load_all(presets()[preset]))) == before(preset)


def test_a_projects_graph_is_the_repositorys() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    whole, own = (yaml.safe_load(t) for t in (text, project_dvc_yaml(text, renders=True, needs_base=True)))
    assert list(own["stages"]) == [s for s in whole["stages"] if s != "base"]
    assert own["plots"] == whole["plots"]
    for name, stage in own["stages"].items():
        ours, theirs = stage.get("do", stage), whole["stages"][name].get("do", whole["stages"][name])
        assert ours["cmd"] == theirs["cmd"] and ours["outs"] == theirs["outs"]
        assert ours["params"] == [{STAMP: [f"code.{name}"]}, *theirs["params"]]
        assert (
            ours.get("deps", []) == [d for d in theirs.get("deps", []) if not d.startswith("src/")] or name == "render"
        )


def test_a_projects_graph_keeps_the_comments_of_its_stages() -> None:
    text = project_dvc_yaml((ROOT / "dvc.yaml").read_text(), renders=False, needs_base=True)
    assert "# A strength given in params.yaml is passed on" in text
    assert "# One more seed: `matrix.seeds` in params.yaml." in text
    for gone in ("embedded Stable Diffusion", "Paths live here", "data/raw:", "src/"):
        assert gone not in text


def test_setups_replace_those_of_the_graph_and_nothing_else() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    changed = with_setups(text, {"real": (None, "real"), "more": ("real", "far")})
    entries = yaml.safe_load(changed)["stages"]["select"]["foreach"]
    assert entries == {
        "real": {
            "onto": "data/real/train",
            "manifest": "data/real/manifest.csv",
            "verdicts": "data/real/val",
            "review": "data/review/none.csv",
        },
        "more": {
            "onto": "data/selected/real.csv",
            "manifest": "data/augmented/far/manifest.csv",
            "verdicts": "data/quality/far.csv",
            "review": "data/review/none.csv",
        },
    }
    head, foot = text.split("    foreach:\n      real:\n")
    assert changed.startswith(head) and changed.endswith(foot.split("    do:\n", 1)[1])


def test_further_photographs_are_watched_as_params_yaml_names_them() -> None:
    graph = parsed(graph_for(load_all(PHOTOGRAPHS)))
    plain = written(graph)
    both = {"ingest": {"shifted": "../there"}, "ood": {"far": "/others"}}
    assert watching(graph, both) == ["ingest.shifted", "ood.far"] and watching(graph, both) == []
    assert graph["stages"]["ingest"]["deps"] == ["${ingest.path}", "${ingest.shifted}", "${ood.far}"]
    assert watching(graph, {"ingest": {"shifted": None}, "ood": None}) == ["ingest.shifted", "ood.far"]
    assert written(graph) == plain
