from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from partsynth.errors import UserError
from partsynth.store import shards


def samples(folder: Path, names: list[str], size: int = 700) -> list[tuple[str, Path, bytes]]:
    made = []
    for i, name in enumerate(names):
        file = folder / f"{i}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([i]) * size)
        made.append((name, file, b'{"i": %d}' % i))
    return made


NAMES = ["a/one-v0.png", "a/part.2-v0.png", "b/100%-v0.png", f"b/{'long' * 40}.png", "c/größe.png"]


def write(folder: Path, names: list[str] = NAMES, size: int = 4096) -> list[str]:
    return [f"data/{path}" for path in shards.write_shards(folder / "data", samples(folder / "from", names), size)]


def test_an_image_is_read_by_its_path_as_a_file_would_be(tmp_path) -> None:
    paths = write(tmp_path)
    assert len({shards.split_name(path)[0] for path in paths}) > 1
    for i, (name, path) in enumerate(zip(NAMES, paths, strict=True)):
        assert shards.read(tmp_path, path) == bytes([i]) * 700 and shards.exists(tmp_path, path)
        assert shards.as_file(path) == f"data/{name}"
    assert [f"data/{name}" for name in shards.images_below(tmp_path / "data")] == sorted(paths)
    (tmp_path / "data/plain.png").write_bytes(b"x")
    assert shards.read(tmp_path, "data/plain.png") == b"x" and shards.as_file("data/plain.png") == "data/plain.png"
    assert shards.split_name("data/a-shard-00000.tar/x.png") == ("data/a-shard-00000.tar/x.png", "")
    for absent in ("data/shard-00000.tar/a/none.png", "data/shard-00099.tar/a/one-v0.png", "data/none.png"):
        assert not shards.exists(tmp_path, absent)
        with pytest.raises(FileNotFoundError):
            shards.read(tmp_path, absent)


def test_a_shard_is_a_tar_file_of_samples_without_time_or_owner(tmp_path) -> None:
    paths = write(tmp_path)
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted((tmp_path / "data").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for one in tar:
                assert (one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) == (0, 0, 0, "", "", 0o644)
                folder, _, base = one.name.rpartition("/")
                key, _, ending = base.partition(".")  # as WebDataset does
                content = tar.extractfile(one)
                assert content is not None
                found.setdefault(f"{folder}/{key}", {})[ending] = content.read()
    assert len(found) == len(paths) and {tuple(sorted(one)) for one in found.values()} == {("json", "png")}
    assert [one["json"] for one in found.values()] == [b'{"i": %d}' % i for i in range(len(NAMES))]


def test_the_same_images_are_the_same_bytes_wherever_a_shard_is_closed_by_its_size(tmp_path) -> None:
    write(tmp_path / "one")
    os.utime(tmp_path / "one/from/0.bin", (1, 1))
    write(tmp_path / "two")
    both = [{p.name: p.read_bytes() for p in (tmp_path / n / "data").glob("*.tar")} for n in ("one", "two")]
    assert both[0] == both[1] and len(both[0]) > 1
    assert len({shards.split_name(p)[0] for p in write(tmp_path / "small", size=1)}) == len(NAMES)
    assert len({shards.split_name(p)[0] for p in write(tmp_path / "large", size=10**9)}) == 1
    assert write(tmp_path / "none", names=[]) == [] and not (tmp_path / "none/data").exists()


def test_a_shard_that_fails_half_way_leaves_nothing(tmp_path) -> None:
    some = samples(tmp_path / "from", NAMES)
    some[2][1].unlink()
    with pytest.raises(FileNotFoundError):
        list(shards.write_shards(tmp_path / "data", some, 10**9))
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a\\..\\out.png"])
def test_members_that_leave_their_folder_are_refused(tmp_path, name) -> None:
    with tarfile.open(tmp_path / "shard-00000.tar", "w") as tar:
        told = tarfile.TarInfo(name)
        told.size = 1
        tar.addfile(told, io.BytesIO(b"x"))
    with pytest.raises(UserError, match="would leave its folder"):
        shards.read(tmp_path, "shard-00000.tar/a.png")


def test_links_and_paths_that_leave_the_root_are_refused(tmp_path) -> None:
    with tarfile.open(tmp_path / "shard-00000.tar", "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(UserError, match=r"a.png, which is no file"):
        shards.read(tmp_path, "shard-00000.tar/a.png")
    with pytest.raises(UserError, match="not a relative path"):
        shards.read(tmp_path / "sub", "../shard-00000.tar/a.png")


def test_a_torn_shard_is_told(tmp_path) -> None:
    (path, *_) = write(tmp_path, size=10**9)
    shard = tmp_path / "data/shard-00000.tar"
    whole = shard.read_bytes()
    for cut in (len(whole) // 3, 600, 100):
        shard.write_bytes(whole[:cut])
        os.utime(shard, ns=(cut, cut))
        with pytest.raises(UserError, match=r"shard-00000\.tar is (torn|no whole tar)"):
            shards.read(tmp_path, path)
    shard.write_bytes(b"no tar file at all" * 100)
    with pytest.raises(UserError, match="is no whole tar file"):
        shards.read(tmp_path, path)


def test_a_changed_shard_is_read_anew(tmp_path) -> None:
    (path, *_) = write(tmp_path, size=10**9)
    assert shards.read(tmp_path, path)[:1] == b"\0"
    list(shards.write_shards(tmp_path / "data", samples(tmp_path / "other", NAMES, size=9)[:1], 10**9))
    assert shards.read(tmp_path, path) == b"\0" * 9
