"""The pages as files: what they hold, what they may do, and that they are the same again."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.audits import tree
from helpers.cli import run
from helpers.reviewed_project import verdicts
from PIL import Image

from partsynth.errors import UserError
from partsynth.review.make import make


class Parts(HTMLParser):
    """Scripts, styles, policy and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"script": [], "style": []}
        self.policy, self.addresses, self.inline = "", [], []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self._inside = tag if tag in self.found else None
        if told.get("type") == "application/json":
            self._inside = None
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policy = told["content"]
        self.addresses += [told[name] for name in ("src", "href") if name in told]
        self.inline += [name for name in told if name.startswith("on") or name == "style"]

    def handle_data(self, text):
        if self._inside:
            self.found[self._inside].append(text)

    def handle_endtag(self, tag):
        self._inside = None


@pytest.fixture(scope="module")
def pages(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages")
    make(judged, [], out, accepted=10)
    return out


def test_there_is_a_page_per_set_and_a_list(pages: Path) -> None:
    assert {p.name for p in pages.iterdir()} == {"index.html", "id", "near_ood", "far_ood"}
    assert set(re.findall(r'href="(\w+)/index.html"', (pages / "index.html").read_text())) == {
        "id",
        "near_ood",
        "far_ood",
    }


@pytest.mark.parametrize("name", ["index.html", "id/index.html"])
def test_a_page_may_run_its_own_script_and_ask_for_nothing(pages: Path, name: str) -> None:
    text = (pages / name).read_text()
    parts = Parts(text)
    assert parts.policy.startswith("default-src 'none'; ")
    for kind, texts in parts.found.items():
        allowed = set(re.findall(rf"{kind}-src '(sha256-[^']+)'", parts.policy))
        hashes = {f"sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}" for t in texts}
        assert hashes == allowed
    assert not parts.inline  # what the policy forbids
    assert not re.search(r"https?://|//cdn|@import|fetch\(|XMLHttpRequest", text)
    assert all(address == "data:," or not re.match(r"[a-z]+:|/", address) for address in parts.addresses)


def data_of(page: Path) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.S)
    return json.loads(found[1])


def test_a_page_holds_what_the_gate_said_and_only_images_that_lie_beside_it(pages: Path, judged: Path) -> None:
    data = data_of(pages / "near_ood/index.html")
    said = {v.path: v for v in verdicts(judged, "near_ood")}
    flagged = {path for path, v in said.items() if v.reasons}
    assert {i["path"] for i in data["images"] if i["reasons"]} == flagged
    assert sum(not i["reasons"] for i in data["images"]) == 10
    for image in data["images"]:
        verdict = said[image["path"]]
        assert (image["sha256"], image["percentile"]) == (verdict.sha256, verdict.percentile)
        assert data["real"][image["source"]]["path"] == verdict.source
    named = {i["file"] for i in data["images"]} | {r["file"] for r in data["real"]}
    assert {p.name for p in (pages / "near_ood/images").iterdir()} == named
    with Image.open(pages / "near_ood/images" / data["images"][0]["file"]) as shown:
        original = Image.open(judged / data["images"][0]["path"]).convert("RGB")
        assert shown.convert("RGB").tobytes() == original.tobytes()  # small ones lose nothing


def test_a_page_says_what_the_projects_setups_make_of_a_decision(pages: Path) -> None:
    said = {name: " ".join((pages / name / "index.html").read_text().split()) for name in ("id", "near_ood", "far_ood")}
    assert "<b>real_id</b> takes it as a positive.</dd>" in said["id"] and "as a negative" not in said["id"]
    assert "<b>real_id_negatives</b> keeps it out of its negatives.</dd>" in said["near_ood"]
    assert "Never a positive; as a negative it may stay." in said["near_ood"]
    assert "No setup uses this set yet." in said["far_ood"]


def test_the_same_set_gives_the_same_bytes_and_images_of_an_earlier_one_go(project: Path, tmp_path: Path) -> None:
    make(project, ["id"], tmp_path / "a", accepted=40)
    make(project, ["id"], tmp_path / "b", accepted=10)
    more = tree(tmp_path / "a")
    assert make(project, ["id"], tmp_path / "a", accepted=10)[0].startswith("review: id: ")
    assert tree(tmp_path / "a") == tree(tmp_path / "b") and len(more) > len(tree(tmp_path / "a"))


def test_names_cannot_leave_their_place_in_a_page(project: Path, tmp_path: Path) -> None:
    """A class, and so a folder of photographs, may be called anything."""
    evil = "</script><img src=x onerror=alert(1)>"
    for table in project.glob("data/*/**/*.csv"):
        table.write_text(table.read_text().replace(",gear_t6,", f",{evil},").replace("/gear_t6/", f"/{evil}/"))
    for folder in sorted(project.glob("data/**/gear_t6")):
        (folder.parent / evil).parent.mkdir()
        folder.rename(folder.parent / evil)
    make(project, ["id"], tmp_path / "out")
    text = (tmp_path / "out/id/index.html").read_text()
    assert "<img src=x" not in text
    assert evil in {i["class_name"] for i in data_of(tmp_path / "out/id/index.html")["images"]}


def test_a_set_that_there_is_none_of_is_refused(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there is no set 'idd', did you mean id; params.yaml has id, near_ood, far_ood"
    ):
        make(judged, ["idd"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_takes_sets_by_name_and_options(judged: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(judged)
    code, told, _ = run("review", "near_ood", "--out", str(tmp_path / "x"), "--accepted", "3", "--seed", "5")
    accepted = sum(not v.reasons for v in verdicts(judged, "near_ood"))
    assert code == 0 and f"{48 - accepted} flagged and 3 of {accepted} accepted images (seed 5)" in told
    assert {p.name for p in (tmp_path / "x").iterdir()} == {"index.html", "near_ood"}
    assert run("review", "--out", str(tmp_path / "y"), "--accepted", "0")[0] == 0
    assert {p.name for p in (tmp_path / "y").iterdir()} == {"index.html", "id", "near_ood", "far_ood"}
    assert run("review", "pages", "idd", "--out", str(tmp_path / "z"))[0] == 1
