"""dvc.yaml of a project, made from the repository's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from partsynth.config.params import Params
from partsynth.project.code import STAMP
from partsynth.project.shipped import BASE, needs_base_model, shipped


def with_data(text: str, data: Path) -> str:
    """A preset's text with ``ingest.path`` naming ``data``."""
    changed, count = re.subn(
        r"(?ms)^(ingest:\n.*?^  path:)[^\n#]*",
        lambda m: f"{m.group(1)} {json.dumps(str(data), ensure_ascii=False)}  ",
        text,
        count=1,
    )
    if not count:
        raise ValueError("the preset's section ingest has no path")
    return "\n".join(line.rstrip() for line in changed.split("\n"))


def graph_for(parameters: Params, setups: list[str] | None = None) -> str:
    """dvc.yaml of a project with these parameters; ``setups``: those of ``benchmark.setups`` to take (None = all)."""
    renders = parameters.ingest.source == "rendered"
    text = project_dvc_yaml(shipped("dvc.yaml").read_text(), renders, needs_base_model(parameters))
    chosen = {n: s for n, s in parameters.benchmark.setups.items() if setups is None or n in setups}
    return with_setups(text, {name: (setup.onto, setup.set) for name, setup in chosen.items()}) if chosen else text


def with_setups(graph: str, chain: dict[str, tuple[str | None, str]]) -> str:
    """dvc.yaml's text with these entries of ``select``: setup -> (setup it adds to or None, set or ``real``)."""
    lines = []
    for name, (onto, added) in chain.items():
        real = added == "real"
        lines += [
            f"      {name}:",
            f"        onto: {f'data/selected/{onto}.csv' if onto else 'data/real/train'}",
            f"        manifest: {'data/real/manifest.csv' if real else f'data/augmented/{added}/manifest.csv'}",
            f"        verdicts: {'data/real/val' if real else f'data/quality/{added}.csv'}",
        ]
    changed, count = re.subn(
        r"(?ms)^(  select:\n    foreach:\n).*?^(?=    do:$)", lambda m: m.group(1) + "\n".join(lines) + "\n", graph
    )
    if count != 1:
        raise ValueError("dvc.yaml has no stage select with a foreach")
    return changed


def project_dvc_yaml(text: str, renders: bool, needs_base: bool) -> str:
    """The repository's dvc.yaml for a project: no ``base``, ``render`` only where wanted, code by STAMP."""
    _, _, body = text.partition("\nstages:\n")
    left_out = {"base"} | (set() if renders else {"render"})
    lines: list[str] = []
    for block in re.split(r"(?m)^(?=(?:  #[^\n]*\n)*  \w+:\n)", body):
        name = re.search(r"(?m)^  (\w+):$", block)
        if name is None or name.group(1) in left_out:
            continue
        for line in block.rstrip("\n").split("\n"):
            if line.strip().startswith("- src/") or (not needs_base and line.strip() == f"- {BASE}"):
                continue
            lines.append(line)
            if line.strip() == "params:":
                indent = " " * (line.index("params:") + 2)
                lines += [f"{indent}- {STAMP}:", f"{indent}    - code.{name.group(1)}"]
        lines.append("")
    made = re.sub(r"(?m)^( *)deps:\n(?!\1  )", "", "\n".join(lines))  # `deps:` of which only code was left out
    return PROJECT_HEAD + "stages:\n" + made


def stage_names(graph: str) -> list[str]:
    return list(yaml.safe_load(graph)["stages"])


PROJECT_HEAD = """\
# ingest -> tokens -> calibrate@SET -> generate@SET -> quality@SET -> select@SETUP -> train@SETUP-SEED -> evaluate -> report
#
# partsynth.json holds a hash of each stage's code in the installed package (`partsynth upgrade` records a new one).
# One more augmentation set: an entry of `sets` in params.yaml.
# One more setup: an entry of `select` and of `matrix.setups` in params.yaml, and one of `select` below.
# One more seed: `matrix.seeds` in params.yaml.
"""
