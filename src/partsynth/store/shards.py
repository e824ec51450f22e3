"""Images in tar shards, WebDataset's layout: ``<class>/<id>.png`` beside ``<class>/<id>.json``, in shards of some MB.

An image in a shard has a path as a file would: ``data/augmented/id/shard-00000.tar/gear/a-v0.png``. Whoever reads
images by the paths of manifests does so here, and need not know how a set is stored.

Shards hold no time, owner or order of a listing: the same images are the same bytes. WebDataset takes what stands
before a name's first dot for the sample's key, so dots of an image's own name are written ``%2E``.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from partsynth.errors import UserError
from partsynth.store.drafts import draft_file
from partsynth.store.files import inside

MEMBER = re.compile(r"^((?:.*?/)?shard-\d{5,}\.tar)/(.+)$", re.DOTALL)
BLOCK = 512  # bytes of a tar header, and what contents are padded to
Index = dict[str, tuple[int, int]]  # member -> where its content begins, and its size in bytes


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def split_name(name: str) -> tuple[str, str]:
    """The file that a manifest's path lies in, and its name in there: empty where it is a file of its own."""
    found = MEMBER.match(name)
    return (found[1], found[2]) if found else (name, "")


def as_file(name: str) -> str:
    """The path that an image of a shard would have as a file of its own; of another path itself."""
    shard, member = split_name(name)
    if not member:
        return name
    place = PurePosixPath(shard).parent / member
    return place.with_name(place.name.replace("%2E", ".").replace("%25", "%")).as_posix()


def member_name(place: str) -> str:
    """What the image at ``<class>/<name>.png`` is called in a shard."""
    path = PurePosixPath(place)
    return path.with_name(path.stem.replace("%", "%25").replace(".", "%2E") + path.suffix).as_posix()


def read(root: Path, name: str) -> bytes:
    """The bytes of the image with this path below ``root``.

    Raises
    ------
    FileNotFoundError
        where there is no such file, or its shard holds no such member.
    UserError
        where the path leaves ``root``, or its shard is damaged.
    """
    file, member = split_name(name)
    path = inside(root, file)
    return read_member(path, member) if member else path.read_bytes()


def exists(root: Path, name: str) -> bool:
    """Whether ``read`` would find it."""
    file, member = split_name(name)
    path = inside(root, file)
    return path.is_file() and (not member or member in index(path))


def read_member(shard: Path, member: str) -> bytes:
    """The bytes of one member; raises as ``read`` does."""
    if (place := index(shard).get(member)) is None:
        raise FileNotFoundError(f"{shard} holds no {member}")
    with open(shard, "rb") as file:
        return _content(file.fileno(), shard, *place)


def members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member, in their order, one in memory at a time; raises as ``read`` does."""
    with open(shard, "rb") as file:
        for name, place in index(shard).items():
            yield name, _content(file.fileno(), shard, *place)


def images_below(folder: Path) -> Iterator[str]:
    """Sorted names, relative to ``folder``, of the PNG files below it, those in shards too; raises as ``read`` does."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]
    for shard in folder.rglob("shard-*.tar"):
        name = shard.relative_to(folder).as_posix()
        names += [f"{name}/{member}" for member in index(shard) if member.endswith(".png")]
    yield from sorted(names)


def index(shard: Path) -> Index:
    """Where a shard's members lie; read once per file, from its headers.

    Raises
    ------
    UserError
        where it is torn, no tar file, or holds something else than files below their shard.
    """
    state = os.stat(shard)
    return _index(str(shard), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)  # some 0.3 KB per member: images are read in the order of their hashes, too
def _index(shard: str, changed: int, size: int) -> Index:
    found: Index = {}
    with open(shard, "rb") as file:
        at = 0
        while len(head := os.pread(file.fileno(), BLOCK, at)) == BLOCK and head.strip(b"\0"):
            if head[257:262] != b"ustar" or head[156:157] != b"0" or head[124] & 0x80:
                return _by_tarfile(shard, size)  # long names, and what others wrote
            length = int(head[124:136].rstrip(b"\0 ") or b"0", 8)
            prefix = head[345:500].rstrip(b"\0").decode() + "/" if head[257:263] == b"ustar\0" and head[345] else ""
            found[_checked(shard, prefix + head[:100].rstrip(b"\0").decode())] = (at + BLOCK, length)
            at += BLOCK + -(-length // BLOCK) * BLOCK
    if len(head) < BLOCK:  # its end is not there
        raise UserError(f"{shard} is torn: dvc checkout restores it")
    return found


def _by_tarfile(shard: str, size: int) -> Index:
    found: Index = {}
    try:
        with tarfile.open(shard, "r:", encoding="utf-8") as tar:
            for one in tar:
                if not one.isreg():
                    raise UserError(f"{shard} holds {one.name}, which is no file: a shard holds images and their rows")
                found[_checked(shard, one.name)] = (one.offset_data, one.size)
        with open(shard, "rb") as file:
            ended = not os.pread(file.fileno(), 2 * BLOCK, max(0, size - 2 * BLOCK)).strip(b"\0")
    except (tarfile.TarError, ValueError, OSError) as error:
        raise UserError(f"{shard} is no whole tar file ({error}): dvc checkout restores it") from None
    if not ended or any(at + length > size for at, length in found.values()):
        raise UserError(f"{shard} is torn: dvc checkout restores it")
    return found


def _checked(shard: str, name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
        raise UserError(f"{shard} holds {name!r}, which would leave its folder")
    return name


def _content(file: int, shard: Path, at: int, size: int) -> bytes:
    data = os.pread(file, size, at)
    while len(data) < size and (more := os.pread(file, size - len(data), at + len(data))):  # over 2 GiB
        data += more
    if len(data) < size:
        raise UserError(f"{shard} is torn: dvc checkout restores it")
    return data


def write_shards(folder: Path, samples: Iterable[tuple[str, Path, bytes]], size: int) -> Iterator[str]:
    """Pack files into ``folder/shard-00000.tar`` and on; yields the path below ``folder`` of each sample's image.

    Each shard is written whole or not at all, and one image is in memory at a time.

    Parameters
    ----------
    samples : of each image where it would stand (``<class>/<name>.png``), its file, and its row as JSON
    size : bytes at which a shard is closed; one holds at least one sample
    """
    waiting = iter(samples)
    sample, number = next(waiting, None), 0
    while sample is not None:
        with _shard(folder / shard_name(number)) as tar:
            while sample is not None and tar.offset < size:
                place, file, row = sample
                name = member_name(place)
                _add(tar, name, file.read_bytes())
                _add(tar, PurePosixPath(name).with_suffix(".json").as_posix(), row)
                yield f"{shard_name(number)}/{name}"
                sample = next(waiting, None)
        number += 1


@contextlib.contextmanager
def _shard(path: Path) -> Iterator[tarfile.TarFile]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = draft_file(path)
    try:
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
                yield tar
            file.flush()
            os.chmod(draft, 0o644)
            os.replace(draft, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)  # a full disk names none
        Path(draft).unlink(missing_ok=True)
        raise


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    told = tarfile.TarInfo(name)  # mtime, uid and gid 0, no names: the same bytes everywhere
    told.size, told.mode = len(data), 0o644
    tar.addfile(told, io.BytesIO(data))
