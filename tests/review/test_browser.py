"""A review by keyboard in a real browser, from file://, to the table that select obeys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browsers import browser
from helpers.cli import run
from helpers.reviewed_project import verdicts

from partsynth.records.review import read_review
from partsynth.review.make import make

pytestmark = pytest.mark.slow


class Reviewing:
    """The page of a set, its hands and eyes."""

    def __init__(self, page: Any, address: Path) -> None:
        self.page, self.troubles, self.asked = page, [], []
        page.on("console", lambda message: self.troubles.append(message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address.as_uri())

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.page.keyboard.press(key)

    def text(self, place: str) -> str:
        return self.page.inner_text(place)

    def shown(self) -> str:
        """The path of the image that is judged."""
        return self.page.get_attribute(".large img", "title")

    def downloaded(self, to: Path) -> Path:
        with self.page.expect_download() as download:
            self.page.click("#download")
        download.value.save_as(to / download.value.suggested_filename)
        return to / download.value.suggested_filename


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def reviewing(chromium: Any, project: Path, tmp_path: Path) -> Iterator[Reviewing]:
    make(project, ["id"], tmp_path / "pages")
    context = chromium.new_context(viewport={"width": 1320, "height": 820})
    yield Reviewing(context.new_page(), tmp_path / "pages/id/index.html")
    context.close()


def test_twenty_images_by_keyboard_one_undone_are_applied(
    reviewing: Reviewing, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = reviewing
    here.press("a")  # nobody decides yet
    assert "Who decides?" in here.text("#alarm") and here.text("#progress").startswith("0 of 48 decided")
    here.page.keyboard.type("Ann Weber, QA")
    here.press("Enter")
    wanted: dict[str, tuple[str, str, str]] = {}

    def decide(keys: str, decision: str, other: str = "", reason: str = "") -> None:
        wanted[here.shown()] = decision, other, reason
        here.press(keys)

    for _ in range(10):
        decide("a", "accept")
    here.press("r")
    here.page.keyboard.type('scratched, "bent"')
    here.press("Enter")
    decide("d", "drop", reason='scratched, "bent"')
    for _ in range(4):
        decide("d", "drop")
    here.press("o")
    other = here.text("#choices li:nth-child(2) button").split()[-1]
    decide("2", "other_class", other)
    here.press("o")
    decide("0", "other_class")
    decide("u", "unsure")
    before = here.shown()
    here.press("a z")  # the wrong key, taken back
    assert here.shown() == before
    assert here.text("#progress").startswith("18 of 48 decided: 10 accept, 5 drop, 2 other class, 1 unsure")
    decide("d", "drop")
    here.press("ArrowRight")  # one is passed over
    decide("a", "accept")
    here.page.reload()  # the browser keeps all of it
    assert here.text("#progress").startswith("20 of 48 decided: 11 accept, 6 drop, 2 other class, 1 unsure")
    assert here.page.input_value("#reviewer") == "Ann Weber, QA"
    assert here.shown() not in wanted  # and opens at the next

    file = here.downloaded(tmp_path)
    assert file.name.startswith("review-id-Ann-Weber-QA-")
    assert here.troubles == [] and {address.split(":")[0] for address in here.asked} <= {"file", "data", "blob"}
    monkeypatch.chdir(project)
    code, said, _ = run("review", "apply", str(file))
    assert code == 0 and "20 decisions (11 accept, 6 drop, 2 other_class, 1 unsure); 20 new" in said
    rows = read_review(project / "data/review/id.csv")
    assert {row.path: (row.decision, row.other_class, row.reason) for row in rows} == wanted
    assert {row.reviewer for row in rows} == {"Ann Weber, QA"}
    known = {v.path: v.sha256 for v in verdicts(project)}
    assert all(known[row.path] == row.sha256 for row in rows)


def test_filters_and_order(chromium: Any, judged: Path, tmp_path: Path) -> None:
    make(judged, ["near_ood"], tmp_path / "pages")
    context = chromium.new_context()
    here = Reviewing(context.new_page(), tmp_path / "pages/near_ood/index.html")
    said = verdicts(judged, "near_ood")

    def count(**choices: str) -> int:
        here.page.click("#reset")
        for name, value in choices.items():
            if name in ("low", "high"):
                here.page.fill(f"#f-{name}", value)
                here.page.dispatch_event(f"#f-{name}", "change")
            else:
                here.page.select_option(f"#f-{name}", value)
        return int(here.text("#count").split()[0])

    here.page.fill("#reviewer", "ann")
    here.press("Enter a d")
    flagged = [v for v in said if v.reasons]
    assert count() == 48 and count(verdict="flagged") == len(flagged) and count(reason="drift") == len(flagged)
    assert count(decision="none") == 46 and count(decision="any") == 2 and count(decision="drop") == 1
    assert {name: count(**{"class": name}) for name in ("gear_t6", "flange_t9")} == {"gear_t6": 12, "flange_t9": 12}
    assert count(low="0.9", high="0.97") == sum(0.9 <= v.percentile <= 0.97 for v in said)
    assert count(verdict="accepted", **{"class": "gear_t6"}) == sum(
        v.class_name == "gear_t6" and not v.reasons for v in said
    )
    count()
    here.page.select_option("#f-order", "far")
    here.press("Home")
    assert here.shown() == max(said, key=lambda v: (v.percentile, v.drift)).path
    assert "gate: drift" in here.text("#facts")
    here.page.check("#blind")
    assert "gate" not in here.text("#facts") and "percentile" not in here.text("#facts")
    context.close()


def test_keys_are_about_the_image_after_a_filter_was_used(reviewing: Reviewing) -> None:
    """A list that kept the focus would take A for its own choice "accept", a box would swallow the key."""
    here = reviewing
    here.page.fill("#reviewer", "ann")
    here.press("Enter")
    here.page.focus("#f-decision")
    here.page.select_option("#f-decision", "none")
    here.press("a")
    assert here.page.input_value("#f-decision") == "none"
    assert here.text("#progress").startswith("1 of 48 decided: 1 accept")
    here.page.click("#blind")
    here.press("d")
    assert here.text("#progress").startswith("2 of 48 decided: 1 accept, 1 drop")
    here.page.focus("#reason")  # where a key is a letter
    here.press("a")
    assert here.page.input_value("#reason") == "a" and here.text("#progress").startswith("2 of 48")


def test_decisions_belong_to_a_version_of_the_set(chromium: Any, project: Path, tmp_path: Path) -> None:
    """The same address after the set was made anew: nothing of the old decisions is shown."""
    context = chromium.new_context()
    make(project, ["id"], tmp_path / "pages")
    address = tmp_path / "pages/id/index.html"
    here = Reviewing(context.new_page(), address)
    here.page.fill("#reviewer", "ann")
    here.press("Enter a a a")
    assert here.text("#progress").startswith("3 of 48")
    text = address.read_text()
    key = text.split('"key":"')[1].split('"')[0]
    address.write_text(text.replace(key, key[:-4] + "0000"))
    assert Reviewing(context.new_page(), address).text("#progress").startswith("0 of 48")
    address.write_text(text)
    assert Reviewing(context.new_page(), address).text("#progress").startswith("3 of 48")
    context.close()


def test_thousands_of_images_stay_quick(chromium: Any, project: Path, tmp_path: Path) -> None:
    """5,000 images: what a key does touches the images in sight alone."""
    import json

    make(project, ["id"], tmp_path / "pages")
    address = tmp_path / "pages/id/index.html"
    head, rest = address.read_text().split('<script id="data" type="application/json">')
    text, foot = rest.split("</script>", 1)
    data = json.loads(text)
    few = data["images"]
    data["images"] = [few[i % len(few)] | {"path": f"data/augmented/id/gear/{i}.png"} for i in range(5000)]
    address.write_text(f'{head}<script id="data" type="application/json">{json.dumps(data)}</script>{foot}')
    context = chromium.new_context()
    here = Reviewing(context.new_page(), address)
    assert here.text("#count") == "5000 of 5000 images"
    assert here.page.evaluate("document.getElementsByTagName('*').length") < 400
    here.page.fill("#reviewer", "ann")
    here.press("Enter")
    for _ in range(60):
        here.press("a")
    assert here.text("#progress").startswith("60 of 5000 decided")
    assert Counter(here.page.locator("#strip li").evaluate_all("cells => cells.map(c => c.className)"))["accept"] > 3
    context.close()
