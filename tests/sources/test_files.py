from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from helpers import in_process
from PIL import Image

from partsynth.project.shipped import shipped
from partsynth.sources import files
from partsynth.sources.base import Fault
from partsynth.sources.files import RUBBISH, Listing, class_folders, content_of, images_below, is_rubbish


def image(path: Path, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(path, kind)


def below(root: Path) -> Listing:
    return images_below(root, root)


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in below(root).images]


def test_class_folders_are_wanted_by_either_name(tmp_path):
    for name in ("brake disc (rear)", "gear", ".hidden", "other"):
        (tmp_path / name).mkdir()
    faults: list[Fault] = []
    assert class_folders(tmp_path, ["brake_disc_rear", "gear"], faults) == {
        "brake_disc_rear": "brake disc (rear)",
        "gear": "gear",
    }
    assert class_folders(tmp_path, ["brake disc (rear)"], faults).keys() == {"brake_disc_rear"}
    assert class_folders(tmp_path, None, faults).keys() == {"brake_disc_rear", "gear", "other"}
    assert faults == []


def test_a_folder_needs_a_name_of_its_own(tmp_path):
    for name in ("Gear", "gear", "---"):
        (tmp_path / name).mkdir()
    faults: list[Fault] = []
    class_folders(tmp_path, None, faults)
    assert {f.name: f.reason for f in faults} == {
        "---": "a class folder needs a letter or digit in its name",
        "gear": "names the same class as the folder 'Gear': rename one",
    }
    assert all(f.fatal for f in faults)


def test_images_are_files_of_known_endings_whatever_they_hold(tmp_path):
    (tmp_path / "a/.git").mkdir(parents=True)
    (tmp_path / "b.png").mkdir()
    for name in ("a/2.JPG", "a/1.webp", "a/.3.png", "a/.git/4.png", "a/5.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["a/1.webp", "a/2.JPG"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_images_are_known_by_their_content_too(tmp_path, kind):
    for name in ("photo", "scan.jpg ", "x.jfif", "camera.0001"):
        image(tmp_path / name, kind)
    assert len(names(tmp_path)) == 4


def test_what_is_no_image_is_left_out_by_ending(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "HAS_HEIF", False)
    for n in range(2):
        heic = struct.pack(">I", 24) + b"ftypheic" + bytes(100)
        (tmp_path / f"{n}.HEIC").write_bytes(heic)
        (tmp_path / f"sent{n}.jpg ").write_bytes(heic)
        (tmp_path / f"{n}.cr2").write_bytes(b"II*\x01")
        (tmp_path / f"{n}.txt").write_text("notes")
        (tmp_path / f"README{n}").write_text("notes")
    kinds = sorted({left.kind for left in below(tmp_path).left})
    assert names(tmp_path) == []
    assert [kind.split(" (")[0] for kind in kinds] == [".cr2", ".heic", ".jpg", ".txt", "files without an ending"]
    assert "partsynth[heif]" in " ".join(kinds)


def test_rubbish_of_file_systems_is_left_out(tmp_path):
    image(tmp_path / "gear/1.jpg")
    for name in ("gear/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/gear/1.jpg", "gear/._1.jpg", "gear/Thumbs.db"):
        image(tmp_path / name)
    for name in ("gear/.DS_Store", "gear/desktop.ini", "gear/1.jpg.crdownload", "gear/~$1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    found = below(tmp_path)
    assert names(tmp_path) == ["gear/1.jpg"] and not found.faults
    assert {left.kind for left in found.left} == {RUBBISH} and len(found.left) == 8
    assert class_folders(tmp_path, None, []).keys() == {"gear"}
    assert not is_rubbish("spindle.jpg")


def test_links_are_named_where_dvc_does_not_follow_them(tmp_path):
    image(tmp_path / "elsewhere/1.jpg")
    image(tmp_path / "photos/gear/1.jpg")
    photos = tmp_path / "photos"
    (photos / "gear/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "gear/linked.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")  # as DVC links files to its cache
    (photos / "gear/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "gear/loop").symlink_to(photos, target_is_directory=True)
    (photos / "shaft").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(photos) == ["gear/1.jpg", "gear/linked.jpg"]
    told = {fault.name: fault.reason for fault in below(photos).faults}
    assert told.keys() == {"gear/more", "gear/loop", "gear/gone.jpg", "shaft"}
    assert "a linked folder" in told["gear/more"] and told["gear/gone.jpg"] == "a link to nothing"
    faults: list[Fault] = []
    assert class_folders(photos, None, faults).keys() == {"gear"} and [f.name for f in faults] == ["shaft"]


def test_names_in_another_encoding_are_named(tmp_path):
    image(tmp_path / "gear/1.jpg")
    with open(os.fsencode(tmp_path / "gear") + b"/gr\xf6\xdfe.jpg", "wb") as file:
        file.write((tmp_path / "gear/1.jpg").read_bytes())
    os.mkdir(os.fsencode(tmp_path) + b"/R\xe4der")
    found = below(tmp_path)
    assert names(tmp_path) == ["gear/1.jpg"]
    assert sorted(fault.name for fault in found.faults) == ["R\\udce4der", "gear/gr\\udcf6\\udcdfe.jpg"]
    assert all("no UTF-8" in fault.reason for fault in found.faults)
    for fault in found.faults:
        fault.name.encode()  # can be printed and written


def test_content_tells_the_format():
    assert content_of(b"\0\0\0\x18ftypheic") == "HEIF"
    assert content_of(b"\0\0\0\x18ftypmp42") == ""
    assert content_of(b"") == content_of(b"<!DOCTYPE html>") == ""


def test_rubbish_is_no_version_of_the_data(tmp_path):
    """DVC leaves it out of a folder in the project, by the .dvcignore that every project begins with."""
    shutil.copy(shipped(".dvcignore"), tmp_path)
    assert in_process.dvc(tmp_path, "init", "--no-scm", "-q").code == 0
    rubbish = ["Thumbs.db", ".DS_Store", "desktop.ini", "._1.jpg", "@eaDir/1.jpg/x.jpg", "__MACOSX/1.jpg"]
    names = [f"data/raw/gear/{name}" for name in [*rubbish, "1.jpg", "thumbs.jpg"]]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = in_process.dvc(tmp_path, "check-ignore", *names)
    assert told.code == 0 and told.stdout.split() == names[:-2]
