"""dvc.yaml of a project, made from the repository's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from partsynth.config.params import Params
from partsynth.project.code import STAMP
from partsynth.project.shipped import BASE, needs_base_model, shipped
from partsynth.store.layout import ADAPTED, NO_REVIEW
from partsynth.store.yaml_text import drop, parsed, written

SOURCE = "src/partsynth/"  # what code dependencies begin with in the repository's dvc.yaml


WATCHED = ("ingest.shifted", "ood.far")  # keys that may name further photographs


def watching(graph: Any, params: Mapping[str, Any]) -> list[str]:
    """Have ``ingest`` in a parsed dvc.yaml depend on what WATCHED keys of params.yaml name, and on no other; the keys
    that were put right."""
    step = graph.get("stages", {}).get("ingest")
    if step is None:
        return []
    changed = []
    for key in WATCHED:
        section, name = key.split(".")
        named = params.get(section)
        wanted = isinstance(named, Mapping) and named.get(name) is not None
        dep = f"${{{key}}}"
        if wanted != (dep in map(str, step.get("deps", []))):
            replace_dependencies(step, dep.__eq__, [dep] if wanted else None)
            changed.append(key)
    return changed


def adapting(dvc_yaml: Any, params: Mapping[str, Any]) -> bool:
    """Give the dvc.yaml of a project from before stage adapt that stage, where params.yaml asks for it.

    Returns whether it was lacking; ``dvc_yaml`` is changed in place.
    """
    stages, diffusion = dvc_yaml["stages"], params.get("diffusion")
    if "adapt" in stages or not isinstance(diffusion, Mapping) or diffusion.get("adapt") is None:
        return False
    users = [step_of(stages[name]) for name in ("tokens", "calibrate", "generate", "report") if name in stages]
    needs_base = any(BASE in step["deps"] for step in users)
    new = parsed(project_dvc_yaml(shipped("dvc.yaml").read_text(), False, needs_base))["stages"]["adapt"]
    stages.insert(list(stages).index("tokens") if "tokens" in stages else len(stages), "adapt", new)
    for step in users:
        replace_dependencies(step, ADAPTED.__eq__, [ADAPTED])
    if "report" in stages and "--adapted" not in stages["report"]["cmd"]:
        stages["report"]["cmd"] = stages["report"]["cmd"].replace("--out ", f"--adapted {ADAPTED} --out ")
    return True


def graph_for(parameters: Params, setups: list[str] | None = None) -> str:
    """dvc.yaml of a project with these parameters; ``setups``: those of ``benchmark.setups`` to take (None = all)."""
    renders = parameters.ingest.source == "rendered"
    text = project_dvc_yaml(shipped("dvc.yaml").read_text(), renders, needs_base_model(parameters))
    dvc_yaml = parsed(text)
    if watching(dvc_yaml, parameters.model_dump()):
        text = written(dvc_yaml)
    chosen = {n: s for n, s in parameters.benchmark.setups.items() if setups is None or n in setups}
    return with_setups(text, {name: (setup.onto, setup.set) for name, setup in chosen.items()}) if chosen else text


def with_setups(graph: str, chain: Mapping[str, tuple[str | None, str]]) -> str:
    """dvc.yaml's text with these entries of ``select``: setup -> (setup it adds to or None, set or ``real``)."""
    dvc_yaml = parsed(graph)
    dvc_yaml["stages"]["select"]["foreach"] = {
        name: {
            "onto": f"data/selected/{onto}.csv" if onto else "data/real/train",
            "manifest": "data/real/manifest.csv" if added == "real" else f"data/augmented/{added}/manifest.csv",
            "verdicts": "data/real/val" if added == "real" else f"data/quality/{added}.csv",
            "review": NO_REVIEW,
        }
        for name, (onto, added) in chain.items()
    }
    return written(dvc_yaml)


def project_dvc_yaml(text: str, renders: bool, needs_base: bool) -> str:
    """The repository's dvc.yaml for a project: no ``base``, ``render`` only where wanted, code by STAMP."""
    dvc_yaml = parsed(text)
    stages = dvc_yaml["stages"]
    for name in ("base",) if renders else ("base", "render"):
        drop(stages, name)
    for name, stage in stages.items():
        step = step_of(stage)
        step["params"].insert(0, {STAMP: [f"code.{name}"]})
        replace_dependencies(step, lambda dep: dep.startswith(SOURCE) or (dep == BASE and not needs_base))
    if not needs_base:
        drop(dvc_yaml["artifacts"], "base-model")
    dvc_yaml.ca.comment = None
    return PROJECT_HEAD + written(dvc_yaml)


def step_of(stage: Any) -> Any:
    """What a stage of dvc.yaml does; of one with ``foreach``, each of its entries."""
    return stage.get("do", stage)


def replace_dependencies(step: Any, old: Callable[[str], bool], new: list[str] | None = None) -> None:
    """Take the dependencies out that ``old`` holds for, and add ``new`` at the end."""
    deps = step.setdefault("deps", []) if new else step.get("deps", [])
    for index in reversed(range(len(deps))):
        if old(str(deps[index])):
            del deps[index]
    deps.extend(new or [])
    if not deps:
        step.pop("deps", None)


def stage_names(graph: str) -> list[str]:
    return list(parsed(graph)["stages"])


PROJECT_HEAD = """\
# ingest -> adapt -> tokens -> calibrate@SET -> generate@SET -> quality@SET -> select@SETUP -> train@SETUP-SEED
# -> evaluate -> report
#
# partsynth.json holds a hash of each stage's code in the installed package (`partsynth upgrade` records a new one).
# One more augmentation set: an entry of `sets` in params.yaml.
# One more setup: an entry of `select` and of `matrix.setups` in params.yaml, and one of `select` below.
# One more seed: `matrix.seeds` in params.yaml.
"""
