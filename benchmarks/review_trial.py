"""Twenty images of a finished demo reviewed in a real browser, and what the next `dvc repro` makes of it.

    python benchmarks/review_trial.py ../demo --work /tmp/trial     # ten minutes of two idle cores: it trains anew
    python benchmarks/review_trial.py ../demo --work /tmp/trial --tables  # a minute: up to what `dvc status` then says

The demo, a clone where `dvc repro` has nothing to do and whose dvc.lock is committed, is copied and not touched. In
the copy the page of a set is made and decided on by keyboard, its file applied, `dvc repro` run, the review taken
back. What follows of each decision is worked out here from the gate's verdicts and dvc.yaml, not by the code that is
tried. Prints a table for docs/review.md; WORK keeps the pages, screenshots and the copy. Exit code 1 where anything
is otherwise than it should.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

DVC = (sys.executable, "-m", "dvc")
PARTSYNTH = (sys.executable, "-m", "partsynth.cli")
REVIEWER = "Ann Weber"
PLAN = (  # what the gate says, what the person says, how many of these
    ("flagged", "accept", 6),
    ("flagged", "drop", 3),
    ("flagged", "other_class", 1),
    ("flagged", "unsure", 1),
    ("accepted", "accept", 2),
    ("accepted", "drop", 4),
    ("accepted", "other_class", 2),
    ("accepted", "unsure", 1),
)
KEYS = {"accept": "a", "drop": "d", "other_class": "o 1", "unsure": "u"}
PREDICTIONS = "reports/metrics/predictions.csv"
Rows = dict[str, str]  # an image's path -> its line


class Trial:
    """The copy of the demo, and what was found."""

    def __init__(self, demo: Path, work: Path, set_name: str) -> None:
        self.root, self.work, self.set_name = work / "demo", work, set_name
        self.table: list[tuple[str, str, bool]] = []  # what, found, as it should be
        shutil.copytree(demo, self.root, symlinks=True, ignore=shutil.ignore_patterns(".venv", "export_alone"))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = os.environ | {"PYTHONPATH": str(self.root / "src"), "PATH": path, "COLUMNS": "200"}

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command said; its exit code is 1 where it ``fails``."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, text=True, capture_output=True)
        if done.returncode != int(fails) or "Traceback" in done.stderr:
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", f"user.name={REVIEWER}", "-c", "user.email=ann@plant", *arguments)

    def expect(self, what: str, found: Any, wanted: Any, told: str = "") -> None:
        """Note a row of the table; ``told``: how it is written, where not as it is."""
        self.table.append((what, told or str(found), found == wanted))
        print(f"{'as it should be' if found == wanted else 'OTHERWISE'}: {what}: {told or found}", file=sys.stderr)
        if found != wanted:
            print(f"  wanted {wanted}", file=sys.stderr)

    def stale(self) -> list[str]:
        """The stages that `dvc status` names; those that follow them it cannot know yet."""
        (told,) = (line for line in self.run(*DVC, "status", "--json").splitlines() if line.startswith("{"))
        return sorted(json.loads(told))

    def lock(self) -> dict[str, Any]:
        return yaml.safe_load((self.root / "dvc.lock").read_text())["stages"]

    def rows(self, table: str) -> Rows:
        lines = (self.root / table).read_text().splitlines()[1:]
        return {line.partition(",")[0]: line for line in lines}


@contextlib.contextmanager
def opened(page: Path) -> Iterator[Any]:
    """The page in a browser without a window."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = started.new_page(viewport={"width": 1320, "height": 780})
        tab.goto(page.as_uri())
        yield tab
        started.close()


def reviewed(trial: Trial, page: Path) -> Path:
    """Decide as PLAN says, one decision undone, and download; the page is kept as review.png."""
    with opened(page) as tab:
        troubles: list[str] = []
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.reload()  # with ears for what it says
        tab.fill("#reviewer", REVIEWER)
        tab.keyboard.press("Enter")
        tab.select_option("#f-order", "mixed")
        for gate in ("flagged", "accepted"):
            tab.select_option("#f-verdict", gate)
            tab.keyboard.press("Home")
            if gate == "flagged":  # the wrong key, taken back
                first = tab.get_attribute(".large img", "title")
                for key in ("d", "z"):
                    tab.keyboard.press(key)
                assert tab.get_attribute(".large img", "title") == first
            for _, decision, count in (line for line in PLAN if line[0] == gate):
                for key in KEYS[decision].split() * count:
                    tab.keyboard.press(key)
        tab.select_option("#f-verdict", "")
        for key in ("Home", *["ArrowRight"] * 6):
            tab.keyboard.press(key)
        tab.wait_for_timeout(500)
        tab.screenshot(path=trial.work / "review.png")
        said = tab.inner_text("#progress")
        with tab.expect_download() as download:
            tab.click("#download")
        file = trial.work / download.value.suggested_filename
        download.value.save_as(file)
    trial.expect("faults and warnings in the browser", troubles, [], "none")
    wanted = "8 accept, 7 drop, 3 other class, 2 unsure"
    trial.expect("the page's progress", wanted in said, True, said)
    return file


def shown(trial: Trial) -> None:
    """The report's section on the review as report.png."""
    with opened(trial.root / "reports/index.html") as tab:
        tab.locator("section#review").screenshot(path=trial.work / "report.png")


def followers(graph: Mapping[str, Any], set_name: str) -> tuple[list[str], list[str]]:
    """The setups that add a set, and those with all that build on them; each of positives by rule accepted."""
    entries = graph["stages"]["select"]["foreach"]
    own = [name for name, entry in entries.items() if entry["manifest"] == f"data/augmented/{set_name}/manifest.csv"]
    chain = list(own)
    for name, entry in entries.items():  # a setup stands below the one that it builds on
        if name not in chain and Path(entry["onto"]).stem in chain:
            chain.append(name)
    return own, chain


def decisions_of(trial: Trial, file: Path) -> dict[str, tuple[str, str]]:
    """Path -> what the gate said and what the person said."""
    gate = {row["path"]: row for row in read(trial.root / f"data/quality/{trial.set_name}.csv")}
    return {
        row["path"]: ("flagged" if gate[row["path"]]["reasons"] else "accepted", row["decision"]) for row in read(file)
    }


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def refusals(trial: Trial, file: Path) -> None:
    """Decisions on other bytes than the image has."""
    image = trial.root / read(file)[0]["path"]
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = trial.run(*PARTSYNTH, "review", "apply", str(file), fails=True)
    image.write_bytes(whole)
    trial.expect("one bit of an image flipped: apply", "is missing or altered here" in said, True, "refused, names it")
    other = file.with_name("other.csv")
    sha256 = read(file)[0]["sha256"]
    other.write_text(file.read_text().replace(sha256, sha256[::-1]))
    said = trial.run(*PARTSYNTH, "review", "apply", str(other), fails=True)
    trial.expect(
        "decided on other bytes: apply", "was made anew since it was reviewed" in said, True, "refused, names it"
    )
    kept = sorted(path.name for path in (trial.root / "data/review").iterdir())
    trial.expect("tables in data/review after both", kept, ["none.csv"])


def compare_lock(trial: Trial, before: Mapping[str, Any], wanted: Sequence[str], ran: Sequence[str]) -> None:
    after = trial.lock()
    changed = [name for name in after if after[name] != before[name]]
    trial.expect("stages that `dvc repro` ran", sorted(ran), sorted(wanted), told_stages(ran))
    trial.expect("stages with another entry in dvc.lock", sorted(changed), sorted(wanted), told_stages(changed))
    outs = {name: {out["path"]: out["md5"] for out in entry["outs"]} for name, entry in before.items()}
    same = [n for n in wanted if outs[n] == {out["path"]: out["md5"] for out in after[n]["outs"]}]
    trial.expect("of these, with the same products", same, [], "none")
    rest = [name for name in before if name not in wanted]
    trial.expect(
        "stages whose entry, products and all, stayed", [n for n in rest if n not in changed], rest, told_stages(rest)
    )


def told_stages(names: Sequence[str]) -> str:
    """Their number, and their kinds with how many there are of each."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.partition("@")[0], []).append(name)
    told = [f"{kind} ({len(each)})" if len(each) > 1 else each[0] for kind, each in kinds.items()]
    return f"{len(names)}: " + ", ".join(f"`{name}`" for name in told)


def compare_tables(trial: Trial, before: Mapping[str, Rows], chain: Sequence[str], told: Mapping[str, Any]) -> None:
    added = {path for path, (gate, person) in told.items() if (gate, person) == ("flagged", "accept")}
    removed = {
        path for path, (gate, person) in told.items() if gate == "accepted" and person in ("drop", "other_class")
    }
    for setup, old in before.items():
        new = trial.rows(f"data/selected/{setup}.csv")
        wanted = (added, removed) if setup in chain else (set(), set())
        found = (new.keys() - old.keys(), old.keys() - new.keys())
        stayed = [path for path in old if path in new]
        same = [path for path in new if path in old] == stayed and all(old[path] == new[path] for path in stayed)
        counts = f"{len(old)} rows, {len(found[0])} more, {len(found[1])} fewer, {len(stayed)} as they were"
        trial.expect(f"data/selected/{setup}.csv", (*found, same), (*wanted, True), counts)


def audit_images(trial: Trial, told: Mapping[str, tuple[str, str]], own: Sequence[str]) -> None:
    """One image per kind: the decision, and whether the setups of the set have it."""
    for gate, decision in (
        ("flagged", "accept"),
        ("accepted", "drop"),
        ("accepted", "other_class"),
        ("accepted", "unsure"),
    ):
        path = next(path for path, both in told.items() if both == (gate, decision))
        data = json.loads(trial.run(*PARTSYNTH, "audit", "image", path, "--json"))
        (person,) = data["review"]
        inside = {chosen["setup"] for chosen in data["selected"]} >= set(own)
        found = (person["decision"], person["reviewer"], inside)
        other = f", {person['other_class']}" if person["other_class"] else ""
        words = f"{REVIEWER}: {decision}{other}; {'in' if inside else 'not in'} {', '.join(own)}"
        trial.expect(
            f"`audit image` of one {gate} by the gate",
            found,
            (decision, REVIEWER, decision in ("accept", "unsure")),
            words,
        )


def taken_back(trial: Trial, lock: bytes) -> None:
    """As docs/review.md says: the commits reverted, their products checked out."""
    trial.git("revert", "--no-edit", "HEAD", "HEAD~1")
    trial.run(*DVC, "checkout")
    said = trial.run(*DVC, "repro")
    trial.expect("taken back (git revert, dvc checkout): stages that run", ran_in(said), [], "none")
    trial.expect(
        "dvc.lock", (trial.root / "dvc.lock").read_bytes() == lock, True, "the same bytes as before the review"
    )
    trial.expect("tables in data/review", [p.name for p in (trial.root / "data/review").iterdir()], ["none.csv"])
    trial.run(*PARTSYNTH, "audit", "verify")


def ran_in(said: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", said)


def tried(trial: Trial, training: bool) -> None:
    lock, before = (trial.root / "dvc.lock").read_bytes(), trial.lock()
    trial.expect("`dvc status` before", trial.stale(), [], "nothing is stale")
    graph = yaml.safe_load((trial.root / "dvc.yaml").read_text())
    own, chain = followers(graph, trial.set_name)
    rules = yaml.safe_load((trial.root / "params.yaml").read_text())["select"]
    if not own or any((rules[name]["role"], rules[name]["rule"]) != ("positive", "accepted") for name in own):
        raise SystemExit(f"{trial.set_name}: this trial knows what becomes of positives by rule accepted alone")
    tables = {name: trial.rows(f"data/selected/{name}.csv") for name in graph["stages"]["select"]["foreach"]}
    predictions = read(trial.root / PREDICTIONS)
    selects = [f"select@{name}" for name in chain]
    trains = [name for name in before if name.startswith("train@") and name[6:].rpartition("-")[0] in chain]
    told = applied(trial, own)
    if training:
        said = trial.run(*DVC, "repro")
        compare_lock(trial, before, [*selects, *trains, "evaluate", "report"], ran_in(said))
        for setup in tables:
            old, new = (
                [row for row in both if row["setup"] == setup] for both in (predictions, read(trial.root / PREDICTIONS))
            )
            words = "others" if old != new else f"all {len(old)} as they were"
            trial.expect(f"predictions of {setup}", old == new, setup not in chain, words)
        trial.run(*PARTSYNTH, "audit", "verify")
        shown(trial)
    else:
        said = trial.run(*DVC, "repro", *selects)
        compare_lock(trial, before, selects, ran_in(said))
        stale = trial.stale()
        trial.expect(
            "`dvc status` then: what the next `dvc repro` trains and makes",
            stale,
            sorted([*trains, "evaluate", "report"]),
            told_stages(stale),
        )
    compare_tables(trial, tables, chain, told)
    audit_images(trial, told, own)
    trial.git("commit", "-q", "-m", "made by the review", "dvc.lock")
    taken_back(trial, lock)


def applied(trial: Trial, own: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Review and apply; path -> what the gate and what the person says."""
    trial.run(*PARTSYNTH, "review", trial.set_name, "--out", str(trial.work / "pages"))
    file = reviewed(trial, trial.work / "pages" / trial.set_name / "index.html")
    told = decisions_of(trial, file)
    found = Counter(told.values())
    trial.expect("decisions in the file", found, {line[:2]: line[2] for line in PLAN}, str(len(told)))
    refusals(trial, file)
    trial.run(*PARTSYNTH, "review", "apply", str(file))
    stale = trial.stale()
    trial.expect(
        "`dvc status` after `review apply`",
        stale,
        sorted(["report", *(f"select@{name}" for name in own)]),
        told_stages(stale),
    )
    trial.git("add", "data/review", "dvc.yaml")
    trial.git("commit", "-q", "-m", f"{trial.set_name} reviewed")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="a finished project")
    parser.add_argument("--work", type=Path, required=True, help="a folder that is made")
    parser.add_argument("--set", default="id", dest="set_name")
    parser.add_argument("--tables", action="store_true", help="make the training tables anew, and train nothing")
    chosen = parser.parse_args()
    trial = Trial(chosen.demo.resolve(), chosen.work.resolve(), chosen.set_name)
    tried(trial, not chosen.tables)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=chosen.demo, text=True, capture_output=True
    ).stdout
    print(f"\nDemo at commit {commit.strip()}.\n\n| | found | |\n|---|---|---|")
    for what, found, right in trial.table:
        print(f"| {what} | {found} | {'✓' if right else '**✗**'} |")
    sys.exit(0 if all(right for _, _, right in trial.table) else 1)


if __name__ == "__main__":
    main()
