from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_sd
from hypothesis import given, settings
from hypothesis import strategies as st

from partsynth.augmentation import materials
from partsynth.augmentation.methods.sdedit import MEMBER, SdeditSet
from partsynth.config.generation import Calibrate, Generate
from partsynth.config.models import Diffusion, Reference
from partsynth.config.quality import Quality
from partsynth.core.drift.reference import ReferenceNet, save
from partsynth.errors import UserError
from partsynth.quality import strength_search
from partsynth.quality.features import Encoder
from partsynth.quality.quota import fewest
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import VerdictRecord
from partsynth.records.strengths import Probe, read_strengths
from partsynth.stages import calibrate, quality

SETTINGS = Generate(steps=8, batch_size=4)
BASE = Diffusion(device="cpu")
REFERENCE = Reference(model="encoder", batch_size=8, device="cpu")
SEARCH = Calibrate(sources=3, rounds=4)
AUTO = SdeditSet(strength="auto", target=(0.0, 0.9))


# --- the search, without pictures ---------------------------------------------------------------------------------


def probes_of(curves: dict):
    """What edits would give: drift as a function of strength, for each class; and the rounds that were asked for."""
    asked = []

    def measure(strengths):
        asked.append(dict(strengths))
        return {c: Probe(strength=s, drift=curves[c](s), in_band=0.0) for c, s in strengths.items()}

    return measure, asked


def test_each_class_is_bisected_to_its_own_strength_in_shared_rounds() -> None:
    curves = {"a": lambda s: 10 * s, "b": lambda s: 4 * s, "c": lambda s: s**3 * 20}
    measure, asked = probes_of(curves)
    found = strength_search.search(list(curves), 2.0, Calibrate(rounds=7), measure)
    assert len(asked) == 7 and all(set(a) == set(curves) for a in asked)
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.1 ** (1 / 3))):
        assert strength_search.chosen(found[name], 2.0).strength == pytest.approx(right, abs=0.93 / 2**7)
        assert len(found[name]) == 7


def test_a_class_that_never_crosses_gets_the_end_and_others_keep_theirs() -> None:
    curves = {"tame": lambda s: s, "wild": lambda s: 9 + s, "even": lambda s: 10 * s, "bent": lambda s: s * (1 - s)}
    measure, asked = probes_of(curves)
    told = Calibrate(rounds=3)
    found = strength_search.search(list(curves), 5.0, told, measure)
    assert asked[-1] == {"tame": 0.95, "wild": 0.02, "bent": 0.95}
    assert {n: strength_search.chosen(t, 5.0).strength for n, t in found.items()} == {
        "tame": 0.95,
        "wild": 0.02,
        "even": 0.485,
        "bent": 0.95,
    }
    said = "\n".join(strength_search.messages("far", found, 5.0, (4.0, 6.0)))
    assert said.count("warning") == 3
    for sentence in ("tame stays inside its class even at 0.95", "wild lies beyond its target already at 0.02"):
        assert f"warning: {sentence}" in said


def test_the_end_of_a_search_that_just_missed_it_can_win() -> None:
    measure, _ = probes_of({"a": lambda s: 1.0 if s < 0.95 else 5.1})
    found = strength_search.search(["a"], 5.0, Calibrate(rounds=3), measure)
    assert strength_search.chosen(found["a"], 5.0).strength == 0.95


def test_the_target_in_drift() -> None:
    calibration = np.arange(1.0, 20.0)  # 19 pictures: percentiles are twentieths
    wide = {"strength": "auto", "target": (0.5, 0.9)}
    assert strength_search.limits(SdeditSet(**wide), "s", calibration) == (10.0, 18.0)
    assert strength_search.limits(SdeditSet(**wide, cap=12.0), "s", calibration) == (10.0, 12.0)
    near, far = strength_search.limits(SdeditSet(strength="auto"), "s", calibration)
    assert near == 19.0 and far == pytest.approx(19.0 + np.quantile(calibration, 0.95) - 10.0)
    assert strength_search.limits(AUTO, "s", calibration)[0] == 1.0
    with pytest.raises(UserError, match=r"sets.s.cap: 9 is not beyond .* 10.000 \(percentile 0.5 of 19"):
        strength_search.limits(SdeditSet(**wide, cap=9.0), "s", calibration)
    with pytest.raises(UserError, match=r"sets.s.target: 19 calibration images have no percentile above 0.96"):
        strength_search.limits(SdeditSet(strength="auto", target=(0.96, 0.99)), "s", calibration)


# --- the quota, without pictures ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(flags=st.lists(st.booleans(), min_size=1), quota=st.integers(1, 8), least=st.integers(0, 8))
def test_a_quota_takes_the_fewest_attempts_that_fill_it(flags: list[bool], quota: int, least: int) -> None:
    least = min(least, len(flags))
    count = fewest(flags, quota, least)
    assert least <= count <= len(flags)
    if sum(flags) < quota:
        assert count == len(flags)
    else:
        assert sum(flags[:count]) >= quota
        assert count == least or sum(flags[: count - 1]) == quota - 1


# --- the stage ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    tiny_sd.build(root / "models/base")
    tiny_sd.write_real(root, pictures=5)
    tiny_sd.learn_tokens(root)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(ReferenceNet((8, 8, 16, 16), 16), root / "encoder", 64)
    return root


@pytest.fixture
def project(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def go(root: Path, chosen=AUTO, search=SEARCH, measured=Quality(), settings=SETTINGS) -> bytes:
    out = root / "data/strengths/auto.json"
    calibrate.run(
        calibrate.Inputs(
            params=search,
            generate=settings,
            diffusion=BASE,
            quality=measured,
            reference=REFERENCE,
            augmentation=chosen,
            set_name="auto",
            real=root / "data/real",
            tokens=root / "models/tokens",
            out=out,
            root=root,
        )
    )
    return out.read_bytes()


@pytest.mark.parametrize("strength", [0.3, [0.2, 0.9]])
def test_a_given_strength_is_passed_on_without_anything_heavy(project, strength) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from partsynth.config import generation, models, quality\n"
        "from partsynth.augmentation.methods.sdedit import SdeditSet; from partsynth.stages import calibrate\n"
        f"given = SdeditSet(strength={strength})\n"
        "sections = {'params': generation.Calibrate(), 'generate': generation.Generate()}\n"
        "sections |= {'quality': quality.Quality()}\n"
        "sections |= {'diffusion': models.Diffusion(), 'reference': models.Reference()}\n"
        "paths = {'real': Path('data/real')}\n"
        "paths |= {'tokens': Path('models/tokens'), 'out': Path('data/strengths/auto.json')}\n"
        "told = {**sections, **paths, 'augmentation': given, 'set_name': 'auto', 'root': Path.cwd()}\n"
        "calibrate.run(calibrate.Inputs(**told))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True)
    found = read_strengths(project / "data/strengths/auto.json", "auto")
    assert {name: one.strength for name, one in found.classes.items()} == dict.fromkeys(
        ("gear_t12", "gear_t24"), strength
    )


def test_the_same_bytes_again_and_nothing_is_loaded(project, monkeypatch) -> None:
    first = go(project)
    found = json.loads(first)
    assert found["calibration_n"] == 10 and set(found["classes"]) == {"gear_t12", "gear_t24"}
    for one in found["classes"].values():
        assert 4 <= len(one["trail"]) <= 5
        assert one["strength"] in [probe["strength"] for probe in one["trail"]]
        assert all(np.isfinite(p["drift"]) and round(3 * p["in_band"], 4) in (0, 1, 2, 3) for p in one["trail"])
    shutil.rmtree(project / ".work")
    assert go(project) == first
    monkeypatch.setattr(materials, "load_model", lambda *_: pytest.fail("loaded the base model"))
    monkeypatch.setattr(Encoder, "__call__", lambda *_: pytest.fail("loaded the encoder"))
    assert go(project) == first


def test_a_killed_search_goes_on_after_its_last_round(project, monkeypatch) -> None:
    whole = go(project)
    shutil.rmtree(project / ".work")
    painted, paint = [], MEMBER.paint_probes

    def dying(rows, materials):
        painted.append(len(rows))
        if len(painted) == 3:
            raise KeyboardInterrupt
        return paint(rows, materials)

    monkeypatch.setattr(MEMBER, "paint_probes", dying)
    with pytest.raises(KeyboardInterrupt):
        go(project)
    assert not (project / "data/strengths/auto.json").exists()
    before = len(painted) - 1  # rounds that were finished
    assert go(project) == whole
    rounds = max(len(one["trail"]) for one in json.loads(whole)["classes"].values())
    assert len(painted) == before + 1 + rounds - before


def test_a_torn_cache_is_made_anew(project) -> None:
    whole = go(project)
    (cache,) = (project / ".work/features").rglob("probes/auto.safetensors")
    cache.write_bytes(cache.read_bytes()[:50])
    assert go(project) == whole


def test_a_probes_drift_is_the_one_that_quality_measures(project) -> None:
    """At the strength found, the probes are the set's own first variants: the share in the target is quality's."""
    go(project, search=Calibrate(sources=5, rounds=3))
    found = read_strengths(project / "data/strengths/auto.json", "auto")
    pictures = tiny_sd.make_set(project, "auto", SETTINGS, AUTO.model_copy(update={"variants": 1}))
    table, page = project / "data/quality/auto.csv", project / "reports/quality/auto"
    quality.run(
        quality.Inputs(
            params=Quality(on_flagged="warn"),
            reference=REFERENCE,
            set_name="auto",
            images=pictures,
            real=project / "data/real",
            out=table,
            page=page,
            root=project,
        )
    )
    verdicts = read_manifest(table, VerdictRecord)
    strengths = {r.class_name: r.strength for r in read_augmented(pictures / "manifest.csv")}
    for name, one in found.classes.items():
        own = [v for v in verdicts if v.class_name == name]
        probe = next(p for p in one.trail if p.strength == one.strength)
        assert strengths[name] == one.strength and {v.calibration_n for v in own} == {found.calibration_n}
        assert probe.drift == pytest.approx(float(np.median([v.drift for v in own])), abs=2e-6)
        assert probe.in_band == np.mean([0.0 < v.judged <= 0.9 for v in own])


# --- a set with a quota ---------------------------------------------------------------------------------------------

STRICT = Quality(accept_percentile=0.5)
QUOTA = SdeditSet(strength=0.6, variants=1, quota=5, max_attempts=14)


def judged(root: Path, chosen: SdeditSet) -> dict[str, list[VerdictRecord]]:
    """What quality says of the set, of each class in the order of its attempts."""
    images = tiny_sd.make_set(root, "auto", SETTINGS, chosen)
    table = root / "data/quality/auto.csv"
    quality.run(
        quality.Inputs(
            params=STRICT,
            reference=REFERENCE,
            set_name="auto",
            images=images,
            real=root / "data/real",
            out=table,
            page=root / "reports/quality/auto",
            root=root,
        )
    )
    order = {row.path: (row.variant, row.source) for row in read_augmented(images / "manifest.csv")}
    found: dict[str, list[VerdictRecord]] = {}
    for verdict in sorted(read_manifest(table, VerdictRecord), key=lambda v: order[v.path]):
        found.setdefault(verdict.class_name, []).append(verdict)
    return found


def test_a_class_draws_edits_until_quality_accepts_its_quota(project, monkeypatch) -> None:
    """The set holds every attempt; quality, which judges it anew, accepts as many as calibrate counted."""
    go(project, QUOTA, measured=STRICT)
    found = read_strengths(project / "data/strengths/auto.json", "auto")
    assert {one.strength for one in found.classes.values()} == {0.6} and set(found.attempts) == set(found.classes)
    monkeypatch.setattr(MEMBER, "paint", lambda *_: pytest.fail("painted again what calibrate had painted"))
    verdicts = judged(project, QUOTA)
    drawn = set()
    for name, told in found.attempts.items():
        accepted = [v.verdict == "accept" for v in verdicts[name]]
        assert (len(accepted), sum(accepted), 5) == (told.attempts, told.accepted, told.quota)
        assert (told.accepted == 5 and accepted[-1]) or told.attempts == 14
        assert 5 <= told.attempts <= 14
        drawn.add(told.attempts)
    assert max(drawn) > 5  # some were refused, or the test shows nothing


def test_a_quota_beyond_reach_ends_at_its_limit(project, capsys) -> None:
    none = Quality(accept_percentile=0.0)
    go(project, QUOTA, measured=none)
    for told in read_strengths(project / "data/strengths/auto.json", "auto").attempts.values():
        assert (told.attempts, told.accepted) == (14, 0)
    assert capsys.readouterr().out.count("0 of 14 attempts accepted; warning: short of its quota of 5") == 2
    go(project, QUOTA.model_copy(update={"variants": 3}), measured=Quality(accept_percentile=1.0, on_flagged="warn"))
    for told in read_strengths(project / "data/strengths/auto.json", "auto").attempts.values():
        assert told.attempts == told.accepted == 15  # variants are drawn in any case


def test_attempts_are_the_same_after_a_kill_and_without_what_was_kept(project, monkeypatch) -> None:
    whole = go(project, QUOTA, measured=STRICT)
    pictures = {
        p.name: p.read_bytes() for p in tiny_sd.make_set(project, "auto", SETTINGS, QUOTA).rglob("*") if p.is_file()
    }
    shutil.rmtree(project / ".work")
    shutil.rmtree(project / "data/augmented")
    again = {
        p.name: p.read_bytes() for p in tiny_sd.make_set(project, "auto", SETTINGS, QUOTA).rglob("*") if p.is_file()
    }
    assert again == pictures  # painted by generate
    paint = MEMBER.paint

    def dying(rows, materials):
        for i, made in enumerate(paint(rows, materials)):
            if i == 6:
                raise KeyboardInterrupt
            yield made

    monkeypatch.setattr(MEMBER, "paint", dying)
    with pytest.raises(KeyboardInterrupt):
        go(project, QUOTA, measured=STRICT)
    assert not (project / "data/strengths/auto.json").exists()
    asked = []
    monkeypatch.setattr(MEMBER, "paint", lambda rows, m: asked.extend(rows) or paint(rows, m))
    assert go(project, QUOTA, measured=STRICT) == whole
    assert asked and len({row.fingerprint for row in asked}) == len(asked)
    kept = len(list((project / ".work/attempts/auto").rglob("*.png")))
    assert kept == sum(told["attempts"] for told in json.loads(whole)["attempts"].values())
    monkeypatch.setattr(MEMBER, "paint", lambda *_: pytest.fail("painted again"))
    monkeypatch.setattr(Encoder, "__call__", lambda *_: pytest.fail("loaded the encoder"))
    assert go(project, QUOTA, measured=STRICT) == whole


def test_a_quota_needs_what_calibrate_found(project) -> None:
    go(project, SdeditSet(strength=0.6))
    with pytest.raises(UserError, match=r"no attempts for the quota of gear_t12, gear_t24: dvc repro calibrate@auto"):
        tiny_sd.make_set(project, "auto", SETTINGS, QUOTA)


def test_what_changes_the_measure_or_the_edits_is_searched_anew(project, monkeypatch) -> None:
    first = json.loads(go(project))
    assert json.loads(go(project, measured=Quality(calibration="pictures")))["aim"] != first["aim"]
    assert json.loads(go(project, AUTO.model_copy(update={"guidance": 1.0})))["classes"] != first["classes"]
    assert json.loads(go(project, settings=SETTINGS.model_copy(update={"seed": 1})))["classes"] != first["classes"]


def test_a_missing_token_and_no_validation_picture_are_said_so(project) -> None:
    token = project / "models/tokens/gear_t12.safetensors"
    away = token.rename(project / "token")
    with pytest.raises(UserError, match="class gear_t12 has no learned token"):
        go(project)
    away.rename(token)
    manifest = project / "data/real/manifest.csv"
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(True) if ",val," not in line))
    with pytest.raises(UserError, match="has no validation images"):
        go(project)
