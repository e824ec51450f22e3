"""`partsynth repro`: what `dvc repro` runs, stages side by side.

DVC runs one stage after another, though trainings need nothing of each other, nor do augmentation sets. It lets several
of its processes work in one project, each on a stage of its own, and keeps the record of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from partsynth.config import load as config_load
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.lineage.dvc_files import dvc_files
from partsynth.project.dvc_process import Running, dvc
from partsynth.project.launch import SHARED
from partsynth.store.process import cores, stoppable

MEMORY = 2 << 30  # bytes that a stage on a CPU may need


@dataclass(frozen=True)
class Stage:
    """A stage as DVC names it (``train@real-0``)."""

    name: str
    needs: frozenset[str] = frozenset()
    """Stages whose products it reads."""
    changed: bool = True
    """DVC would run it, whatever the others do."""


def run(folder: Path, workers: int | None = None) -> None:
    """`dvc repro` of all stages, at most ``workers`` side by side.

    Parameters
    ----------
    workers : None = as many as there are GPUs, or as the stages' threads go into the cores

    Raises
    ------
    UserError
        for faults of params.yaml and dvc.yaml, and where a stage fails; what was finished is kept.
    """
    params = config_load.load_all(folder / "params.yaml")
    places = _places(params, workers)
    running = Running()

    def reproduce(arguments: Sequence[str], place: Mapping[str, str], prefix: str = "") -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1", **place}
        if dvc(arguments, folder, environment, running, prefix):
            raise UserError(
                "dvc repro failed (its output is above): put it right and start again, it goes on from there"
            )

    def some(names: Sequence[str], place: Mapping[str, str]) -> None:
        prefix = f"{names[0]}: " if len(names) == 1 else ""
        reproduce(["--wait-for-lock", "repro", "--single-item", *names], place, prefix)

    with stoppable():
        if (most := workers or len(places)) > 1 and len(places) > 1:
            side_by_side(_stages(folder), places, lambda name: _share(name, params, len(places)), some, most, running)
        reproduce(["repro"], {})


def side_by_side(
    stages: Sequence[Stage],
    places: Sequence[Mapping[str, str]],
    share: Callable[[str], int],
    do: Callable[[Sequence[str], Mapping[str, str]], None],
    most: int,
    running: Running,
) -> None:
    """Call ``do`` with each stage that has to run and its place, when all that it needs is done; where one fails, or
    this is stopped, end all that run.

    Of those that may begin, the one that most others wait for is first. A stage has to run where it changed, or where
    one ran that it needs. Stages that run alone, one after another, are given to ``do`` together.

    Parameters
    ----------
    places : each with what a stage finds in its environment that takes this place alone
    share : of a stage, the number of places that it takes
    most : calls at a time
    """
    order = _first_what_most_wait_for(_outdated(stages))
    free, done = list(places), {stage.name for stage in stages} - {stage.name for stage in order}
    busy: dict[Future[None], tuple[list[str], list[Mapping[str, str]]]] = {}
    with ThreadPoolExecutor(most) as pool:
        try:
            while order or busy:
                while stage := _first(order, done):
                    taken = share(stage.name)
                    if len(busy) == most or len(free) < taken:
                        break  # what comes after it would keep it waiting
                    order.remove(stage)
                    names = [stage.name]
                    if taken == len(places):
                        names += _alone_too(order, done | {stage.name}, len(places), share)
                    own, free = free[:taken], free[taken:]
                    place = own[0] if len(own) == 1 else {}  # several: whatever there is
                    busy[pool.submit(do, names, place)] = names, own
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    names, own = busy.pop(future)
                    free.extend(own)
                    future.result()
                    done.update(names)
        except BaseException:
            running.end()
            raise


def _first(order: Sequence[Stage], done: set[str]) -> Stage | None:
    """Of the stages that may begin, the first."""
    return next((stage for stage in order if stage.needs <= done), None)


def _alone_too(order: list[Stage], done: set[str], places: int, share: Callable[[str], int]) -> list[str]:
    """Taken from ``order``: those that follow one that takes all places, and take all of them too."""
    names = []
    while (stage := _first(order, done)) and share(stage.name) == places:
        order.remove(stage)
        names.append(stage.name)
        done = done | {stage.name}
    return names


def _outdated(stages: Sequence[Stage]) -> list[Stage]:
    """Those that changed, and those that need one of these, near or far."""
    found = {stage.name for stage in stages if stage.changed}
    while more := {stage.name for stage in stages if stage.needs & found} - found:
        found |= more
    return [stage for stage in stages if stage.name in found]


def _first_what_most_wait_for(stages: Sequence[Stage]) -> list[Stage]:
    """Ordered by the number of stages that need each, near or far; then by name."""
    needs = {stage.name: stage.needs for stage in stages}
    above: dict[str, set[str]] = {}

    def all_above(name: str) -> set[str]:
        if name not in above:
            above[name] = set(needs[name]).union(*(all_above(needed) for needed in needs[name] & needs.keys()))
        return above[name]

    waiting = dict.fromkeys(needs, 0)
    for name in needs:
        for needed in all_above(name) & needs.keys():
            waiting[needed] += 1
    return sorted(stages, key=lambda stage: (-waiting[stage.name], stage.name))


def _stages(folder: Path) -> list[Stage]:
    """The project's stages; frozen ones, which DVC does not run, are left out."""
    import logging

    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # of frozen stages
    with dvc_files(folder), Repo(os.fspath(folder)) as repo:
        graph, changed = repo.index.graph, repo.status()
        return [
            Stage(
                _name(stage),
                frozenset(_name(needed) for needed in graph.successors(stage) if not needed.frozen),
                stage.addressing in changed,
            )
            for stage in repo.index.stages
            if not stage.frozen
        ]


def _name(stage: Any) -> str:
    """As DVC's command line takes it in the project's folder, wherever this process is."""
    file, name = stage.path_in_repo, getattr(stage, "name", None)
    return file if name is None else name if file == "dvc.yaml" else f"{file}:{name}"


def _places(params: Params, workers: int | None) -> list[dict[str, str]]:
    """What each of the stages side by side finds in its environment: on a GPU one of its own, on a CPU nothing."""
    import torch

    if params.train.device != "cpu" and torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]
        return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(workers or len(gpus))]
    return [{} for _ in range(max(1, min(cores(), psutil.virtual_memory().available // MEMORY)))]


def _share(name: str, params: Params, places: int) -> int:
    """Of a stage, the number of places that it takes: all, where it takes all cores or several processes share it."""
    import torch

    kind = name.partition("@")[0]
    if params.launch and kind in SHARED:
        return places
    if params.train.device != "cpu" and torch.cuda.is_available():
        return 1
    threads = {  # the others take all cores, or hardly any time
        "select": 1,
        "train": params.train.threads,
        "quality": params.reference.threads,
        **dict.fromkeys(("adapt", "tokens", "calibrate", "generate"), params.diffusion.threads),
    }
    return min(threads.get(kind) or places, places)
