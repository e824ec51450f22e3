"""Which replicates there are, and their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from partsynth.config.params import Params
from partsynth.evaluation.metrics import STUDY_PART
from partsynth.evaluation.verdict import Change

SECONDS = "seconds.json"  # in a replicate's folder: what its stages took
APART = 1000  # the seeds of a replicate's trainings
TARGET = "evaluate"  # what is made of each replicate, with all it needs; pages for people are not
PARTS = ("val", "test", "shifted", "near_test", "far_test")  # whose predictions the figures need
UNSCORED = ("val", STUDY_PART)  # of these the confidence alone
CHOSEN_ON = ("near_val", "far_val")  # needed, with scores, where the OOD score is chosen


@dataclass(frozen=True)
class Replicate:
    """One project to be run: ``setups`` in the benchmark's order; ``shots`` is None where all images are used."""

    folder: str  # its name in the benchmark's work folder
    seed: int
    shots: int | None  # training, and as many validation, images per class
    setups: tuple[str, ...]
    initialisations: int = 1  # of each training; the replicate's figures are their means

    @property
    def seeds(self) -> list[int]:
        """Of its trainings: its own first."""
        return [self.seed + APART * number for number in range(self.initialisations)]


def plan(params: Params, quick: bool, main: bool = False) -> list[Replicate]:
    """All replicates in the order they run: whole ones first, then the few-shot ones.

    Parameters
    ----------
    main : the main setups of the whole ones alone
    """
    wanted, each = params.benchmark, params.benchmark.initialisations
    prefix = "quick-" if quick else ""
    found, mains = [], [name for name, setup in wanted.setups.items() if setup.kind == "main"]
    count = wanted.quick.replicates if quick else wanted.replicates.main
    for number, seed in enumerate(wanted.seeds[:count]):
        setups = [n for n, s in wanted.setups.items() if number < getattr(wanted.replicates, s.kind)]
        if main:
            setups = mains
        if quick:
            chosen = wanted.quick.setups or mains
            setups = [n for n in wanted.setups if n in chosen]
        found.append(Replicate(f"{prefix}all-seed{seed}", seed, None, tuple(setups), each))
    if main:
        return found
    few = tuple(n for n in wanted.setups if n in wanted.few_shot.setups)
    count = min(count, wanted.few_shot.replicates)
    for shots in wanted.quick.shots if quick else wanted.few_shot.shots:
        found += [Replicate(f"{prefix}shots{shots}-seed{s}", s, shots, few, each) for s in wanted.seeds[:count]]
    return found


def needed(params: Params, setups: Sequence[str]) -> tuple[list[str], list[str]]:
    """The setups whose tables ``setups`` are made of, themselves among them, and the sets that these add."""
    chain = set(setups)
    for name in reversed(params.benchmark.setups):  # later ones build on earlier ones
        if name in chain and (onto := params.benchmark.setups[name].onto):
            chain.add(onto)
    tables = [name for name in params.benchmark.setups if name in chain]
    added = {params.benchmark.setups[name].set for name in tables}
    return tables, [name for name in params.sets if name in added]


def parameters(raw: dict[str, Any], params: Params, replicate: Replicate) -> dict[str, Any]:
    """The replicate's params.yaml from the preset's ``raw`` content: seeds, shots, and what its setups need."""
    tables, sets = needed(params, replicate.setups)
    # DVC wants every section to be there, if only empty
    sections = [name for name in Params.model_fields if name not in ("launch", "benchmark", "study")]
    made: dict[str, Any] = {name: dict(raw.get(name) or {}) for name in sections}
    if params.launch:
        made["launch"] = params.launch
    for section in ("render", "ingest", "tokens", "generate"):
        made[section]["seed"] = replicate.seed
    if replicate.shots is not None:
        made["ingest"] |= {"shots": replicate.shots, "val_shots": replicate.shots}
    made["sets"] = {name: raw["sets"][name] for name in sets}
    made["select"] = {name: raw["select"][name] for name in tables}
    made["matrix"] = {"setups": list(replicate.setups), "seeds": replicate.seeds}
    return made


def changes(params: Params) -> dict[tuple[str, str], Change]:
    """(setup, the setup it is compared with) -> what the sentences call the change, from the preset."""
    setups, found = params.benchmark.setups, {}
    for name, setup in setups.items():
        for base in setup.bases:
            other, select = setups[base], params.select[name]
            variation = select.train is not None and (other.onto, other.set) == (setup.onto, setup.set)
            alone = base == setup.onto or variation  # else it has one thing in the other's place
            what = setup.adds if alone else f"{setup.adds} instead of {_lower(other.adds)}"
            found[name, base] = Change(what, select.role)
    return found


def _lower(text: str) -> str:
    """``Band negatives`` -> ``band negatives``, but ``ID augmentations`` as it is."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
