"""Reviews in dvc.yaml: which setups obey the decisions on a set.

Each entry of ``select`` names a table of decisions; one that none was made for names NO_REVIEW, which holds none and
never changes. So a review of one set reruns the setups of this set alone, and a setup can be kept as it would be
without (a control) by naming NO_REVIEW.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.project.dvcfile import step_of
from partsynth.project.findings import Findings
from partsynth.records.manifest import write_manifest
from partsynth.records.review import ReviewRecord, read_review
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import AUGMENTED, MANIFEST, NO_REVIEW, REVIEW
from partsynth.store.yaml_text import parsed, written

GRAPH = "dvc.yaml"


def write_no_review(root: Path) -> None:
    """The table of sets that nobody reviewed."""
    if not (root / NO_REVIEW).exists():
        write_manifest(root / NO_REVIEW, [], ReviewRecord)


def obeying(graph: Any, set_name: str) -> list[str]:
    """The setups of a parsed dvc.yaml that obey the review of a set."""
    return [name for name, entry in _setups(graph).items() if str(entry.get("review")) == _table(set_name)]


def using(graph: Any, set_name: str) -> list[str]:
    """The setups that add a set."""
    manifest = f"{AUGMENTED}/{set_name}/{MANIFEST}"
    return [name for name, entry in _setups(graph).items() if str(entry.get("manifest")) == manifest]


def _setups(graph: Any) -> dict[str, Mapping[str, Any]]:
    entries = (graph.get("stages") or {}).get("select", {}).get("foreach", {})
    named = entries if isinstance(entries, Mapping) else {}
    return {str(name): entry for name, entry in named.items() if isinstance(entry, Mapping)}


def _table(set_name: str) -> str:
    return f"{REVIEW}/{set_name}.csv"


def connect(root: Path, set_name: str) -> list[str]:
    """Have every setup of a set obey its review, where none does yet; returns those that do then.

    Also makes a dvc.yaml of before reviews know of them.
    """
    path = root / GRAPH
    graph = parsed(path.read_text())
    if not (found := obeying(graph, set_name)) and (found := using(graph, set_name)):
        _know(graph)
        for setup in found:
            graph["stages"]["select"]["foreach"][setup]["review"] = _table(set_name)
        write_no_review(root)
        write_text_atomic(path, written(graph))
    return found


def _know(graph: Any) -> None:
    """Give ``select`` and ``report`` their option and dependency, where they lack it."""
    stages = graph["stages"]
    select, report = step_of(stages["select"]), step_of(stages.get("report", {}))
    for step, option in ((select, "${item.review}"), (report, REVIEW)):
        if step and "--review " not in str(step["cmd"]):
            step["cmd"] = f"{str(step['cmd']).rstrip()} --review {option}"
        if step and option not in map(str, step.setdefault("deps", [])):
            step["deps"].append(option)
    for entry in stages["select"]["foreach"].values():
        entry.setdefault("review", NO_REVIEW)


def check_reviews(root: Path, found: Findings) -> None:
    """Every table can be read, and the setups of its set obey it. (One that is missing is told of with dvc.yaml.)"""
    try:
        graph = parsed((root / GRAPH).read_text())
    except (OSError, UserError):
        return  # DVC's own reading tells why
    tables = {str(entry["review"]) for entry in _setups(graph).values() if "review" in entry}
    for table in sorted((root / REVIEW).glob("*.csv")):
        name = table.relative_to(root).as_posix()
        try:
            decisions = read_review(table)
        except UserError as error:
            found.faults.append(str(error))
            continue
        if decisions and name not in tables and (unheeding := using(graph, table.stem)):
            found.faults.append(
                f"{name} is obeyed by no setup: name it as `review` of {' or '.join(unheeding)} in dvc.yaml's select"
            )
        elif decisions:
            found.in_order.append(f"{name}: {len(decisions)} decisions")
