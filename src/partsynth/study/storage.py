"""Where trials are kept."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from partsynth.config.study import Study
from partsynth.errors import UserError
from partsynth.store.addresses import awkward, masked
from partsynth.study.journal import mend
from partsynth.study.retries import retry


def shown(url: str) -> str:
    """A storage address without its password."""
    return masked(url)


def is_database(settings: Study) -> bool:
    """Whether trials lie in an RDB, which any number of hosts can reach and whose workers give signs of life."""
    return "://" in settings.storage


def open_storage(settings: Study, root: Path) -> optuna.storages.BaseStorage:
    """A journal file (any number of processes of one host), or an RDB with heartbeats (any number of hosts).

    Raises
    ------
    UserError
        where the RDB cannot be reached, or the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if not is_database(settings):
        path = root / settings.storage
        path.parent.mkdir(parents=True, exist_ok=True)
        if told := mend(path):
            print(f"study: {told}")
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", settings.storage)  # the driver of the extra
    try:
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=settings.heartbeat,
            grace_period=3 * settings.heartbeat,
            heartbeat_stale_trial_callback=retry,
            engine_kwargs={"pool_pre_ping": True},
        )
    except ImportError as error:
        raise UserError(
            f"cannot open study.storage {shown(settings.storage)}: {error} (pip install 'partsynth[postgres]')"
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        first = shown(str(error).splitlines()[0])
        if awkward(settings.storage):  # the driver cut the address at another place and names what follows
            first = "its password holds characters that an address must escape (%40 for @, %2F for /, %3A for :)"
        raise UserError(f"cannot open study.storage {shown(settings.storage)}: {first}") from None


def load_study(settings: Study, root: Path) -> optuna.Study:
    """An existing study, for reading.

    Raises
    ------
    UserError
        where the storage has none of this name.
    """
    if not is_database(settings) and not (root / settings.storage).is_file():
        raise UserError(f"there is no study yet: {root / settings.storage} is missing (partsynth study run)")
    storage = open_storage(settings, root)
    try:
        return optuna.load_study(study_name=settings.name, storage=storage)
    except KeyError:
        known = ", ".join(sorted(s.study_name for s in optuna.get_all_study_summaries(storage))) or "none"
        raise UserError(f"no study {settings.name!r} in {shown(settings.storage)}; it has {known}") from None
