"""All photographs that section ingest and section ood name, as their sources list them."""

from __future__ import annotations

import os
from pathlib import Path

from partsynth.config.data import Ingest, Ood
from partsynth.errors import UserError
from partsynth.seams import SOURCES
from partsynth.sources.base import Found
from partsynth.sources.far import read_far


def find(raw: Path, params: Ingest, ood: Ood, root: Path) -> Found:
    """What lies in ``raw``, in ``ingest.shifted`` and in ``ood.far``, which may be relative to ``root``.

    Raises
    ------
    UserError
        where one of these folders is missing, or laid out as nothing that can be read.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder (ingest.path names the source folder)")
    if params.shifted is not None:
        params = params.model_copy(update={"shifted": os.fspath(root / params.shifted)})
    wanted = None if params.classes is None else [*params.classes, *ood.holdout_classes]
    found = SOURCES[params.source].read(raw, wanted, params)
    if ood.far is not None:
        far = read_far(root / ood.far, {photo.class_name for photo in found.photos}, ood.far_images)
        found.photos += far.photos
        found.left += far.left
        found.faults += far.faults
    return found
