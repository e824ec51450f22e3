"""DVC's objects by hash: found in the cache or on a remote, checked, and written out. Nothing is trusted unread."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from partsynth.errors import UserError
from partsynth.lineage.digests import md5_bytes
from partsynth.lineage.dvc_files import dvc_files
from partsynth.lineage.remotes import remote_faults
from partsynth.store.addresses import masked
from partsynth.store.files import inside, write_bytes_atomic

SEND = "`partsynth audit push` in a copy of the project that still has it sends it there"
NO_REMOTE = "no remote is configured: `dvc remote add -d NAME ADDRESS` names one that it was sent to"


@dataclass(frozen=True)
class PipelineStage:
    """A stage of dvc.yaml with its templates resolved."""

    cmd: str | list[str]
    frozen: bool
    uncached: tuple[str, ...]  # outputs kept out of the cache


class Objects:
    """The DVC cache of a project and the remotes behind it.

    Reading from the cache needs DVC's configuration alone; its repository, which takes longer to import and to open,
    is opened when something must be fetched, sent or resolved.

    Raises
    ------
    UserError
        where ``root`` is no DVC repository, or its configuration cannot be read.
    """

    def __init__(self, root: Path) -> None:
        from dvc.config import Config, ConfigError

        self.root = Path(root)
        absolute = self.root.absolute()
        home = next((f / ".dvc" for f in (absolute, *absolute.parents) if (f / ".dvc").is_dir()), None)
        if home is None:
            raise UserError(f"{root} is no DVC repository: there are no objects to check out")
        try:
            config = Config(str(home))
        except ConfigError as error:
            raise UserError(f"{home / 'config'}: {error}") from None
        settings = config["cache"]
        if "local" in settings:  # DVC's former way: the name of a remote
            self.cache = Path(self._repo.cache.local.path)
        else:
            self.cache = Path(settings.get("dir") or home / "cache") / "files" / "md5"
        default = config["core"].get("remote")
        self.remotes = sorted(config["remote"], key=lambda name: (name != default, name))  # the default first

    @functools.cached_property
    def _repo(self) -> Any:
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.CRITICAL)
        logging.getLogger("dvc_data").setLevel(logging.CRITICAL)
        return Repo(str(self.root))

    def close(self) -> None:
        if "_repo" in self.__dict__:
            self._repo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ignored(self, path: str) -> bool:
        """Whether .dvcignore leaves an absolute path out."""
        return self._repo.dvcignore.is_ignored_file(path)

    def pipeline(self) -> dict[str, PipelineStage]:
        """The stages of dvc.yaml by name.

        Raises
        ------
        UserError
            where dvc.yaml, or another file of DVC's, cannot be resolved.
        """
        with dvc_files(self.root):
            stages = [stage for stage in self._repo.index.stages if getattr(stage, "name", None)]
        return {
            stage.name: PipelineStage(
                stage.cmd, stage.frozen, tuple(out.def_path for out in stage.outs if not out.use_cache)
            )
            for stage in stages
        }

    def path(self, md5: str) -> Path:
        """Where the cache keeps an object (whether it is there or not)."""
        return self.cache / md5[:2] / md5[2:]

    def fetch(self, md5s: Iterable[str]) -> set[str]:
        """Bring objects, and the files of folder objects, from the remotes; returns those still missing."""
        wanted = set(md5s)
        if not self.remotes or not self.missing(wanted):
            return self.missing(wanted)
        from dvc_data.hashfile.hash_info import HashInfo

        for remote in self.remotes:
            for _ in ("folders' listings and single files", "the folders' files"):
                if not (missing := self.missing(wanted)):
                    return missing
                try:  # one unreachable remote must not hide the next
                    self._repo.cloud.pull({HashInfo("md5", md5) for md5 in missing}, remote=remote)
                except Exception as error:
                    logging.getLogger(__name__).warning("remote %s: %s", remote, error)
        return self.missing(wanted)

    def missing(self, md5s: Iterable[str]) -> set[str]:
        """Objects that the cache lacks; a folder whose listing is there answers for its files."""
        gone: set[str] = set()
        for md5 in md5s:
            if not self.path(md5).is_file():
                gone.add(md5)
            elif md5.endswith(".dir"):
                gone |= {m for m in self.listing(md5).values() if not self.path(m).is_file()}
        return gone

    def push(self, md5s: Iterable[str], remote: str | None = None) -> int:
        """Send objects, and the files of folder objects, to a remote (the default one); returns how many were sent.

        Raises
        ------
        UserError
            where the cache lacks some, or the remote does not take them: what its address needs is not installed, it
            is out of reach, or there is none.
        """
        from dvc_data.hashfile.hash_info import HashInfo

        if lacking := self.missing(md5s := set(md5s)):
            raise UserError("the cache lacks what should be sent: " + ", ".join(sorted(lacking)))
        # DVC takes a folder whose listing is on the remote for complete: its files go along
        md5s |= {file for md5 in md5s if md5.endswith(".dir") for file in self.listing(md5).values()}
        try:
            result = self._repo.cloud.push({HashInfo("md5", md5) for md5 in md5s}, remote=remote)
        except Exception as error:  # libraries of clouds have exceptions of their own
            remedies = "; ".join(remote_faults(self.root, remote))
            said = masked(" ".join(str(error).split())) or type(error).__name__
            raise UserError(remedies or f"the remote takes nothing: {said}") from None
        if result.failed:
            raise UserError(f"{len(result.failed)} object(s) could not be pushed")
        return len(result.transferred)

    def database_of(self, remote: str) -> Any:
        """DVC's own view (``HashFileDB``) of a remote's objects.

        Raises
        ------
        UserError
            where DVC cannot open it, or it keeps versions of files instead of objects.
        """
        from dvc.exceptions import DvcException

        try:
            return self._repo.cloud.get_remote_odb(remote, "partsynth audit source --purge")
        except DvcException as error:
            raise UserError(f"DVC's remote {remote} cannot be used: {error}") from None

    def read(self, md5: str) -> bytes:
        """An object's bytes, their md5 checked.

        Raises
        ------
        UserError
            where the cache lacks it (``fetch`` first) or holds other bytes.
        """
        path = self.path(md5)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            where = f"no remote ({', '.join(self.remotes)}) has it: {SEND}" if self.remotes else NO_REMOTE
            raise UserError(f"object {md5} is missing from the cache ({path}) and {where}") from None
        if md5_bytes(data) != md5.removesuffix(".dir"):
            raise UserError(f"cache file {path} is damaged: its md5 is not its name")
        return data

    def listing(self, md5: str) -> dict[str, str]:
        """Relative path -> md5 of a folder object."""
        rows = json.loads(self.read(md5))
        return {row["relpath"]: row["md5"] for row in rows}

    def restore(self, md5: str, destination: Path) -> dict[str, str]:
        """Write a file or a whole folder out as plain copies; returns what was written, relative path -> md5.

        A folder is emptied of strangers first. All faults are collected, then raised once.
        """
        if not md5.endswith(".dir"):
            write_bytes_atomic(destination, self.read(md5))
            return {destination.name: md5}
        files, faults = self.listing(md5), []
        if destination.exists():
            shutil.rmtree(destination)
        destination.mkdir(parents=True)
        for name, file_md5 in sorted(files.items()):
            try:
                write_bytes_atomic(inside(destination, name), self.read(file_md5))
            except UserError as error:
                faults.append(f"{destination / name}: {error}")
        if faults:
            raise UserError("\n".join(faults))
        return files
