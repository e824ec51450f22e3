"""A replicate's project: a DVC project of its own, made from the preset and kept up to date with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.benchmark.plan import Replicate, needed, parameters
from partsynth.config.load import load_all, load_text, read_yaml
from partsynth.config.params import Params
from partsynth.errors import UserError, did_you_mean
from partsynth.project import init
from partsynth.project.card import RENDERED, write_card
from partsynth.project.code import STAMP
from partsynth.project.dvcfile import graph_for
from partsynth.project.given import Photographs, with_photographs
from partsynth.project.reviews import write_no_review
from partsynth.project.shipped import presets
from partsynth.project.upgrade import upgrade
from partsynth.records.card import DataCard
from partsynth.store.drafts import draft_folder
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import AUGMENTED, CARD, MANIFEST, NO_REVIEW, RAW, Layout
from partsynth.store.reading import parse_yaml
from partsynth.store.yaml_rule import dump_yaml

# of commits in replicates; hooks and keys of the user's are for his own
IDENTITY = (
    *("-c", "user.name=partsynth", "-c", "user.email=partsynth@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"),
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A preset with a benchmark, and what a project is made from beside it."""

    name: str
    params: Params
    raw: dict[str, Any]  # the file's content, with the photographs
    photographs: Photographs
    base: Path | None  # a base model, where the package lies outside its repository


def read_preset(name: str, photographs: Photographs | None = None, base: Path | None = None) -> Preset:
    """The preset of this name, of these photographs.

    Targets are of the preset's own photographs: where the held-out classes or the groups are others, it has none.

    Raises
    ------
    UserError
        where there is none, it has no benchmark, or faults.
    """
    known, photographs = presets(), photographs or Photographs()
    if name not in known:
        raise UserError(f"no preset {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    file = known[name]
    text, params = file.read_text(), load_all(file)
    if not params.benchmark.setups:
        there = [other for other, path in known.items() if read_yaml(path).get("benchmark")]
        raise UserError(f"the preset {name} has no section benchmark; these have: {', '.join(there) or 'none'}")
    if photographs.options:
        if params.ingest.source == "rendered":
            given = ", ".join(dict.fromkeys(option for option, _ in photographs.options))
            raise UserError(f"the preset {name} renders its own images: leave out {given}")
        text = with_photographs(text, photographs)
    raw = parse_yaml(text, str(file))
    if photographs.held_out or photographs.group_pattern is not None:
        raw["benchmark"].pop("targets", None)
    return Preset(name=name, params=load_text(dump_yaml(raw), file), raw=raw, photographs=photographs, base=base)


def prepare(folder: Path, preset: Preset, replicate: Replicate, cache: Path) -> None:
    """The replicate's project as the preset now wants it: made where it is missing, else brought up to date."""
    if not folder.exists():
        init.init(folder, preset.name, preset.photographs.data, preset.base, cache)
    upgrade(folder)  # stages whose code changed run again
    tables, sets = needed(preset.params, replicate.setups)
    about = f"# Replicate {replicate.folder} of the preset {preset.name}, written by `partsynth benchmark`.\n"
    wanted = parameters(preset.raw, preset.params, replicate)
    texts = {"params.yaml": about + dump_yaml(wanted), "dvc.yaml": graph_for(preset.params, tables)}
    for name, text in texts.items():
        if (folder / name).read_text() != text:
            write_text_atomic(folder / name, text)
    write_no_review(folder)
    write_card(folder, RENDERED if preset.params.ingest.source == "rendered" else DataCard())
    load_all(folder / "params.yaml")
    for stale in (folder / AUGMENTED).glob(f"*/{MANIFEST}"):
        if stale.parent.name not in sets:  # a set that the preset no longer has
            shutil.rmtree(stale.parent)
    git = ["git", *IDENTITY]
    subprocess.run([*git, "add", *texts, STAMP, NO_REVIEW, CARD], cwd=folder, check=True, capture_output=True)
    subprocess.run([*git, "commit", "--quiet", "-m", about.strip("# \n")], cwd=folder, capture_output=True)


def take_over(folder: Path, others: Sequence[Path]) -> None:
    """Copy an earlier replicate's renders, that of the same seed first: the stage keeps those that fit and makes the
    rest."""
    raw = folder / RAW
    finished = [other for other in others if other != folder and (other / RAW / MANIFEST).is_file()]
    if raw.exists() or not finished:
        return
    seed = folder.name.rpartition("-")[2]
    source = next((other for other in finished if other.name.endswith(f"-{seed}")), finished[0])
    _copy_whole(source / RAW, raw, MANIFEST)


def take_over_features(folder: Path, done: Sequence[Path]) -> None:
    """Copy what was measured of images in the last replicate that is done: photographs are the same in all, and a
    feature is kept under the hash of its own pixels."""
    features = Layout(folder).features
    finished = [Layout(other).features for other in done if Layout(other).features.is_dir()]
    if finished and not features.exists():
        _copy_whole(finished[-1], features)


def _copy_whole(source: Path, folder: Path, *left_out: str) -> None:
    """Copy a folder to a place where there is none: whole, or not at all."""
    with draft_folder(folder) as draft:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
        os.replace(draft, folder)


def shared_cache(home: Path, work: Path) -> Path:
    """The DVC cache of the repository whose MLflow store is used, so that audits there find a replicate's data."""
    if (home / ".dvc").is_dir():
        asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=home, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip():
            return home / asked.stdout.strip()
    return work / "cache"
