from __future__ import annotations

import pytest

from partsynth.sources.base import Fault, class_folders, class_name, images_below


@pytest.mark.parametrize(
    ("name", "expected"), [("brake disc (rear)", "brake_disc_rear"), ("Zahnräder", "Zahnräder"), ("a/../b", "a_.._b")]
)
def test_class_names_are_fit_for_files(name, expected):
    assert class_name(name) == expected


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


def test_images_below_are_visible_files_of_known_endings(tmp_path):
    (tmp_path / "a/.git").mkdir(parents=True)
    (tmp_path / "b.png").mkdir()
    for name in ("a/2.JPG", "a/1.webp", "a/.3.png", "a/.git/4.png", "a/5.heic"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.relative_to(tmp_path).as_posix() for p in images_below(tmp_path)] == ["a/1.webp", "a/2.JPG"]
