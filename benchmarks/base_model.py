"""What the embedded base model can do, measured: reconstruction, words, textual inversion, SDEdit, the gate, loading.

    python benchmarks/base_model.py [--project DIR] [--quick]

--project is a project whose `quality` stages have run: its tokens, photographs, edits and verdicts are under test.
Everything is judged by a network trained on renders (probes.py) which the pipeline never uses. Guidance and the `id`
strength are chosen on corpus variants, then reported on the target classes. Renders, judge and pictures are kept in
--work, so a second run takes little. Writes benchmarks/base_model.{json,md,png}; with --quick a fifth of the pictures,
into --work. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import probes
import repository
import torch
from torch import Tensor

from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config import load as config_load
from partsynth.config.params import Params
from partsynth.core.diffusion.images import padded, to_tensor
from partsynth.core.diffusion.inversion import Concept, Inversion
from partsynth.core.diffusion.loading import load as load_diffusion
from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.diffusion.prompts import fill
from partsynth.core.drift import calibration, distances, reference
from partsynth.core.drift.calibration import drift_scores
from partsynth.core.drift.distances import Bank, class_distances
from partsynth.core.evaluation.intervals import Side, crossed_interval, t_interval
from partsynth.core.evaluation.metrics import auroc
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, VerdictRecord
from partsynth.stages.tokens import first_words
from partsynth.store.base_model import locate_base
from partsynth.store.files import read_json, write_json, write_text_atomic
from partsynth.store.hashing import fingerprint, seed_from, sha256_tree
from partsynth.store.tensors import write_safetensors

STATES = ("brand new", "used", "rusty", "dirty", "broken")
STRENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # the issue's
FINE = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 0.9)  # where the `id` strength is looked for
GUIDANCES = (1.5, 2.0, 3.0, 4.0, 6.0)
GENTLE = (1.0, 2.0, 3.0)  # guidances beside the project's at the lowest strength: is the class lost by guidance?
KEEP = 0.95  # of the pictures keep their class at the `id` strength
DRAWS = 16  # timesteps, and noises, a picture's denoising loss is averaged over
BATCH = 32


@dataclass(frozen=True)
class Figure:
    """One line of the result. ``passed`` is None where the figure is there for information only."""

    name: str
    target: str
    value: str
    passed: bool | None
    note: str = ""


@dataclass
class Bench:
    """What every measurement needs."""

    work: Path
    out: Path
    project: Path
    base: Path
    quick: bool
    workers: int
    model: StableDiffusion
    encoder: reference.ReferenceEncoder
    judge: Any
    base_sha256: str
    settings: Params

    def some(self, full: int) -> int:
        return max(1, full // 5) if self.quick else full

    def kept(self, name: str, identity: Any, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """``make``'s arrays, or those of an earlier run on the same base model and identity."""
        path = self.work / "kept" / f"{name}-{fingerprint([self.base_sha256, identity])[:16]}.npz"
        if not path.is_file():
            print(f"{name} ...", flush=True)
            made = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".draft").open("wb") as file:
                np.savez_compressed(file, **made)
            path.with_suffix(".draft").replace(path)
        with np.load(path, allow_pickle=False) as data:
            return {key: data[key] for key in data.files}

    def generate(self, name: str, prompts: Sequence[str], guidance: float, identity: Any = "") -> Tensor:
        """Pictures (N, 3, S, S) in [-1, 1] from prompts and pure noise; the k-th of a prompt has the k-th seed."""
        seeds = [seed_from("base model", name, i) for i in range(len(prompts))]
        steps, size = self.settings.generate.steps, self.settings.diffusion.size
        made = self.kept(
            name,
            [list(prompts), guidance, steps, size, identity],
            lambda: {"images": as_uint8(self.model.generate(prompts, seeds, guidance, steps, size, BATCH))},
        )
        return probes.as_tensor(made["images"])

    def edit(
        self,
        name: str,
        latents: Tensor,
        prompts: Sequence[str],
        strength: float,
        guidance: float,
        identity: Any,
        seed: int = 0,
    ) -> Tensor:
        """SDEdit pictures (N, 3, S, S) in [-1, 1]; a source has the same seed at every strength, guidance and state."""
        seeds = [seed_from("base model edit", i, seed) for i in range(len(latents))]
        steps = self.settings.generate.steps

        def make() -> dict[str, np.ndarray]:
            done = []
            for rows, count in padded(len(latents), BATCH):
                context = torch.stack([self.model.prompts.embed(prompts[i]) for i in rows])
                edited = self.model.sdedit(latents[rows], context, [seeds[i] for i in rows], strength, guidance, steps)
                done.append(edited[:count])
            return {"images": as_uint8(self.model.decode(torch.cat(done)))}

        pictures = hashlib.sha256(latents.numpy().tobytes()).hexdigest()
        made = self.kept(name, [pictures, list(prompts), strength, guidance, steps, seed, identity], make)
        return probes.as_tensor(made["images"])


def as_uint8(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3), as a PNG would hold them."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


# --- reconstruction -----------------------------------------------------------------------------------------------


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Of pictures (N, 3, H, W) in [-1, 1], in dB against a range of 1."""
    return -10 * ((made - wanted) / 2).square().mean((1, 2, 3)).log10()


def ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """Structural similarity of luminance (Wang et al. 2004): 11 x 11 Gaussian window of sigma 1.5, mean per image."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    x, y = (((p + 1) / 2 * weights).sum(1, keepdim=True) for p in (made, wanted))
    axis = torch.exp(-(torch.arange(-5, 6).float() ** 2) / (2 * 1.5**2))
    window = (axis[:, None] * axis / axis.sum() ** 2)[None, None]

    def mean(p: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(p, window)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean((1, 2, 3))


def reconstruction(bench: Bench, targets: dict[str, Any]) -> tuple[list[Figure], dict[str, Any]]:
    images = targets["images"][:: 20 if bench.quick else 4]
    wanted = probes.as_tensor(images)
    made = bench.kept(
        "reconstruction", hashlib.sha256(images.tobytes()).hexdigest(), lambda: {"images": round_trip(bench, wanted)}
    )
    made = probes.as_tensor(made["images"])
    grain = probes.grain_pictures(bench.work, bench.workers, 60)
    noisy, again, clean = (probes.as_tensor(grain[:, i]) for i in range(3))
    rebuilt = probes.as_tensor(
        bench.kept("grain", hashlib.sha256(grain.tobytes()).hexdigest(), lambda: {"images": round_trip(bench, noisy)})[
            "images"
        ]
    )
    values = {
        "psnr": psnr(made, wanted).mean().item(),
        "ssim": ssim(made, wanted).mean().item(),
        "pictures": len(images),
        "grain_psnr": psnr(noisy, again).mean().item(),
        "grain_ssim": ssim(noisy, again).mean().item(),
        "render_to_clean_psnr": psnr(noisy, clean).mean().item(),
        "render_to_clean_ssim": ssim(noisy, clean).mean().item(),
        "rebuilt_to_clean_psnr": psnr(rebuilt, clean).mean().item(),
        "rebuilt_to_clean_ssim": ssim(rebuilt, clean).mean().item(),
        "rebuilt_psnr": psnr(rebuilt, noisy).mean().item(),
    }
    grain_text = f"two renders of one scene differ by {values['grain_psnr']:.1f} dB, SSIM {values['grain_ssim']:.3f}"
    return [
        Figure(
            "reconstruction PSNR, target renders",
            ">= 33 dB",
            f"{values['psnr']:.2f} dB",
            values["psnr"] >= 33,
            f"{len(images)} pictures; {grain_text} (25 samples a pixel)",
        ),
        Figure("reconstruction SSIM, target renders", ">= 0.95", f"{values['ssim']:.4f}", values["ssim"] >= 0.95),
        Figure(
            "reconstruction against 256 samples a pixel",
            "",
            f"{values['rebuilt_to_clean_psnr']:.2f} dB, SSIM {values['rebuilt_to_clean_ssim']:.4f}",
            None,
            f"the 25-sample render itself: {values['render_to_clean_psnr']:.2f} dB, "
            f"SSIM {values['render_to_clean_ssim']:.4f}",
        ),
    ], values


def round_trip(bench: Bench, images: Tensor) -> np.ndarray:
    return as_uint8(bench.model.decode(bench.model.encode(images)))


# --- words --------------------------------------------------------------------------------------------------------


def word_of(family: str) -> str:
    from partsynth.rendering import captions

    return captions.FAMILY_WORDS.get(family, (family.replace("_", " "),))[0]


def words(bench: Bench, judged: dict[str, Any]) -> tuple[list[Figure], dict[str, Any]]:
    """Families and states drawn from captions; guidance chosen on families that no target belongs to."""
    from partsynth.rendering import catalog

    families = bench.judge.names["family"]
    reserved = {target.family for target in catalog.TARGETS}
    clear = [s for s in STATES if judged["state recall, corpus"][s] >= 0.95]

    def ask(name: str, among: Sequence[str], rounds: int, guidance: float) -> dict[str, Any]:
        rows = [(f, s) for _ in range(rounds) for f in among for s in STATES]
        pictures = bench.generate(name, [f"a photo of a {s} {word_of(f)}" for f, s in rows], guidance)
        named, state = bench.judge.answers(pictures, "family"), bench.judge.answers(pictures, "state")
        return {
            "family": float(np.mean([n == f for n, (f, _) in zip(named, rows, strict=True)])),
            "families": {
                f: float(np.mean([n == f for n, r in zip(named, rows, strict=True) if r[0] == f])) for f in among
            },
            "states": {
                s: float(np.mean([n == s for n, r in zip(state, rows, strict=True) if r[1] == s])) for s in STATES
            },
            "pictures": len(rows),
        }

    corpus_only = [f for f in families if f not in reserved]
    grid = {g: ask("guidance", corpus_only, bench.some(5), g) for g in GUIDANCES}

    def score(g: float) -> float:
        return grid[g]["family"] + float(np.mean([grid[g]["states"][s] for s in clear or STATES]))

    guidance = max(GUIDANCES, key=score)
    found = ask("words", families, bench.some(8), guidance)
    states = {s: found["states"][s] for s in clear}
    unclear = [s for s in STATES if s not in clear]
    note = "probe's recall on unseen renders: " + ", ".join(
        f"{s} {percent(judged['state recall, corpus'][s])}" for s in STATES
    )
    if unclear:
        note += "; not asked for: " + ", ".join(f"{s} ({percent(found['states'][s])} drawn)" for s in unclear)
    worst = min(states.values(), default=0.0)
    return [
        Figure(
            "guidance",
            "chosen on corpus families",
            f"{guidance:g}",
            None,
            ", ".join(f"{g:g}: families {percent(grid[g]['family'])}, sum {score(g):.3f}" for g in GUIDANCES),
        ),
        Figure(
            "states in generated pictures",
            ">= 90 % each",
            ", ".join(f"{s} {percent(v)}" for s, v in states.items()),
            worst >= 0.9,
            note,
        ),
        Figure(
            "families in generated pictures",
            ">= 90 %",
            percent(found["family"]),
            found["family"] >= 0.9,
            f"{found['pictures']} pictures; probe's accuracy on unseen renders {percent(judged['family, corpus'])}; "
            "lowest: "
            + ", ".join(f"{f} {percent(v)}" for f, v in sorted(found["families"].items(), key=lambda i: i[1])[:4]),
        ),
    ], {"guidance": guidance, "grid": {str(g): v for g, v in grid.items()}, **found}


# --- textual inversion --------------------------------------------------------------------------------------------


def token(class_name: str) -> str:
    return f"<{class_name}>"


def family_of(class_name: str) -> str:
    return class_name.split("_")[0]  # all four target families are single words


def losses(bench: Bench, latents: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Denoising losses (N,) of pictures under prompts; the noise and timesteps depend on the seed alone."""
    model, total = bench.model, len(bench.model.alphas)
    result = np.zeros(len(latents))
    rows = [(i, j) for i in range(len(latents)) for j in range(DRAWS)]
    with torch.inference_mode():
        for batch, count in padded(len(rows), BATCH):
            parts = [rows[k] for k in batch]
            times = torch.tensor([int((j + 0.5) / DRAWS * total) for _, j in parts])
            noise = torch.stack([model.noise(seed_from(seeds[i], j), latents.shape[1:]) for i, j in parts])
            clean = latents[[i for i, _ in parts]]
            alphas = torch.tensor(model.alphas)[times].float().view(-1, 1, 1, 1)
            a, b = alphas.sqrt(), (1 - alphas).sqrt()
            wanted = noise if model.prediction == "epsilon" else a * noise - b * clean
            context = torch.stack([model.prompts.embed(prompts[i]) for i, _ in parts])
            error = (model.predict(a * clean + b * noise, times, context) - wanted).square().mean((1, 2, 3))
            for (i, _), value in list(zip(parts, error.tolist(), strict=True))[:count]:
                result[i] += value / DRAWS
    return result


def inversion(bench: Bench, guidance: float) -> tuple[list[Figure], dict[str, Any]]:
    rows = [
        r
        for r in read_manifest(bench.project / "data/real/manifest.csv", RealRecord)
        if r.split == "val" and r.role == "target"
    ]
    classes = sorted({r.class_name for r in rows})
    if bench.quick:
        rows = [r for r in rows if r.camera != "cam1"]
    latents = bench.model.encode(to_tensor([read_image(bench.project, r) for r in rows], bench.settings.diffusion.size))
    marks = token_marks(bench)
    template = bench.settings.tokens.templates[0]

    def under(column: str, spell: Callable[[RealRecord], str]) -> np.ndarray:
        prompts = [fill(template, r.state, spell(r)) for r in rows]
        return bench.kept(
            f"loss-{column}",
            [prompts, [r.sha256 for r in rows], marks, DRAWS],
            lambda: {"losses": losses(bench, latents, prompts, [seed_from("held out", r.sha256) for r in rows])},
        )["losses"]

    siblings = {c: [o for o in classes if o != c and family_of(o) == family_of(c)] for c in classes}
    own = under("own", lambda r: token(r.class_name))
    family = under("family", lambda r: family_of(r.class_name))
    others = [under(f"sibling{k}", lambda r, k=k: token(siblings[r.class_name][k])) for k in range(2)]
    named = np.array([r.class_name for r in rows])
    parts = np.array([r.group for r in rows])
    table = []
    for c in classes:
        mine = named == c
        hardest = min(others, key=lambda column: column[mine].mean())
        k = next(k for k, column in enumerate(others) if column is hardest)
        row = {
            "class": c,
            "own": own[mine].mean(),
            "family": family[mine].mean(),
            "sibling": hardest[mine].mean(),
            "hardest": siblings[c][k],
        }
        for name, column in (("family", family), ("sibling", hardest)):
            gain = (column - own)[mine]
            by_part = [gain[parts[mine] == p].mean() for p in np.unique(parts[mine])]
            mean, low, high, _ = t_interval(by_part)
            row[f"{name} gain"] = [float(mean), low, high]
        table.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
    lower = [r for r in table if r["own"] < r["family"] and r["own"] < r["sibling"]]
    certain = [r for r in table if all((r[f"{n} gain"][1] or 0) > 0 for n in ("family", "sibling"))]
    against = {n: sum((r[f"{n} gain"][1] or 0) > 0 for r in table) for n in ("family", "sibling")}

    prompts = [
        fill(bench.settings.generate.template, s, token(c))
        for _ in range(bench.some(5))
        for c in classes
        for s in STATES
    ]
    truth = np.array([c for _ in range(bench.some(5)) for c in classes for _ in STATES])
    called = bench.judge.answers(bench.generate("tokens", prompts, guidance, marks), "target")
    families = sorted({family_of(c) for c in classes})
    plain = [
        fill(bench.settings.generate.template, s, f) for _ in range(bench.some(15)) for f in families for s in STATES
    ]
    plain_truth = np.array([f for _ in range(bench.some(15)) for f in families for _ in STATES])
    plain_called = bench.judge.answers(bench.generate("family words", plain, guidance), "target")
    per_class = {c: float((called[truth == c] == c).mean()) for c in classes}
    by_word = {c: float((plain_called[plain_truth == family_of(c)] == c).mean()) for c in classes}
    hit, chance = float((called == truth).mean()), float(np.mean(list(by_word.values())))
    note = "; ".join(f"{c} {percent(v)} (word {percent(by_word[c])})" for c, v in per_class.items())
    return [
        Figure(
            "held-out loss: own token below family word and hardest sibling",
            ">= 10 of 12 classes",
            f"{len(lower)} of {len(classes)}",
            len(lower) >= 10,
            f"95 % t-interval over held-out parts, same noise, above zero: against the family word "
            f"{against['family']}, "
            f"against the hardest sibling {against['sibling']}, both {len(certain)}",
        ),
        Figure(
            "the same, with both intervals above zero",
            ">= 10 of 12 classes",
            f"{len(certain)} of {len(classes)}",
            len(certain) >= 10,
            f"{len(rows)} pictures, {DRAWS} timesteps each",
        ),
        Figure(
            "token alone: pictures named its class",
            ">= 50 % and twice the family word's",
            f"{percent(hit)} against {percent(chance)}",
            hit >= 0.5 and hit >= 2 * chance,
            note,
        ),
    ], {"table": table, "named": per_class, "named by family word": by_word, "pictures": len(prompts)}


def token_marks(bench: Bench) -> list[str]:
    entries = read_json(bench.project / "models/tokens/manifest.json")["tokens"]
    return [f"{name} {entry['sha256']}" for name, entry in sorted(entries.items())]


def install_tokens(bench: Bench) -> None:
    from safetensors.torch import load_file

    for name, entry in read_json(bench.project / "models/tokens/manifest.json")["tokens"].items():
        bench.model.prompts.install_token(token(name), load_file(bench.project / entry["path"])["vectors"])


# --- SDEdit -------------------------------------------------------------------------------------------------------


@dataclass
class Sources:
    """Pictures to edit, and what drift is measured against."""

    latents: Tensor  # (N, C, h, w)
    images: Tensor  # (N, 3, S, S)
    classes: np.ndarray  # (N,)
    groups: np.ndarray
    states: list[str]  # asked for
    question: str  # the judge's head
    mark: Any

    @property
    def prompts(self) -> list[str]:
        return [f"a photo of a {s} {token(c)}" for s, c in zip(self.states, self.classes, strict=True)]


def asked_states(count: int) -> list[str]:
    """All five states in turn, shifted so that no class or camera always gets the same."""
    return [STATES[(i + i // 5) % len(STATES)] for i in range(count)]


def target_sources(bench: Bench) -> Sources:
    rows = [
        r
        for r in read_manifest(bench.project / "data/real/manifest.csv", RealRecord)
        if r.split == "train" and r.role == "target"
    ]
    rows = sorted(rows, key=lambda r: r.path)[:: 5 if bench.quick else 1]
    images = to_tensor([read_image(bench.project, r) for r in rows], bench.settings.diffusion.size)
    return Sources(
        bench.model.encode(images),
        images,
        np.array([r.class_name for r in rows]),
        np.array([r.group for r in rows]),
        asked_states(len(rows)),
        "target",
        token_marks(bench),
    )


def corpus_sources(bench: Bench) -> Sources:
    """The corpus variants' narrow pictures, with tokens learned from them as the project's are."""
    data = probes.variant_pictures(bench.work, bench.workers)
    narrow = np.nonzero(~data["wide"])[0]
    narrow = narrow[np.argsort(data["labels"][narrow], kind="stable")]
    names = np.array(probes.variant_names())[data["labels"][narrow]]
    images = probes.as_tensor(data["images"][narrow])
    latents = bench.model.encode(images)
    settings = bench.settings.tokens
    words = first_words(settings, sorted(set(names)))
    concepts = []
    for c in sorted(set(names)):
        mine = np.nonzero(names == c)[0]
        prompts = [[fill(t, str(data["states"][narrow[i]]), token(c)) for t in settings.templates] for i in mine]
        own = latents[mine]
        if settings.flips:
            own, prompts = torch.cat([own, bench.model.encode(images[mine].flip(3))]), prompts * 2
        concepts.append(Concept(token(c), own, prompts, seed_from("corpus token", c), words[c]))
    mark = [settings.model_dump(), hashlib.sha256(data["images"][narrow].tobytes()).hexdigest()]
    path = bench.work / "kept" / f"corpus-tokens-{fingerprint([bench.base_sha256, mark])[:16]}.safetensors"
    learn(bench, concepts, path)
    groups = np.array([f"{c} {i // 2}" for i, c in enumerate(names)])
    step = 5 if bench.quick else 1
    return Sources(
        latents[::step],
        images[::step],
        names[::step],
        groups[::step],
        asked_states(len(names))[::step],
        "variant",
        mark,
    )


def learn(bench: Bench, concepts: Sequence[Concept], path: Path) -> None:
    """Install the concepts' tokens: those of an earlier run, or trained by the project's settings (resumable)."""
    from safetensors.torch import load_file

    s = bench.settings.tokens
    training = Inversion(
        bench.model,
        concepts,
        vectors=s.vectors,
        steps=s.steps,
        batch_size=s.batch_size,
        learning_rate=s.learning_rate,
        warmup=s.warmup,
    )
    if path.is_file():
        training.restore(load_file(path))
    while training.done < s.steps:
        training.step()
        if training.done % 20 == 0 or training.done == s.steps:
            write_safetensors(path, training.state(), {})
            print(f"corpus tokens: step {training.done}/{s.steps}", flush=True)
    training.result()


def measure(bench: Bench, sources: Sources, strength: float, guidance: float) -> dict[str, Any]:
    """One strength: accuracy, states, drift. Strength 0 is the VAE's round trip."""
    name = f"edit-{sources.question}-{strength:g}-{guidance:g}"
    made = bench.edit(name, sources.latents, sources.prompts, strength, guidance, sources.mark)
    named = bench.judge.answers(made, sources.question)
    state = bench.judge.answers(made, "state")
    before = bench.judge.answers(sources.images, "state")
    asked = np.array(sources.states)
    other = before != asked
    features = bench.encoder(as_uint8(made))
    plain = bench.encoder(as_uint8(sources.images))
    bank = Bank(plain, np.arange(len(plain)).astype(str), sources.classes, sources.groups)
    away = class_distances(features, bank.names, sources.groups, bank, bench.settings.quality.neighbours)
    own = distances.own(away, sources.classes, bank.kinds)
    gain = (state == asked).astype(float) - (before == asked).astype(float)
    once = Side(np.zeros(len(gain), int), np.asarray(sources.groups), gain, np.full(len(gain), 1 / len(gain)))
    _, low, high, _ = crossed_interval([float(gain.mean())], [once])  # over parts
    own_groups = bank.names, bank.groups  # the images are the bank's own: each without its group
    scored = calibration.calibrate(bank, plain, sources.classes, bench.settings.quality.neighbours, own_groups)
    return {
        "images": made,
        "standard drift": drift_scores(away, sources.classes, bank.kinds, scored),
        "class kept": named == sources.classes,
        "accuracy": float((named == sources.classes).mean()),
        "per class": {
            c: float((named == sources.classes)[sources.classes == c].mean()) for c in sorted(set(sources.classes))
        },
        "family": float(np.mean([family_of(a) == family_of(b) for a, b in zip(named, sources.classes, strict=True)])),
        "state": float((state == asked).mean()),
        "states": {s: float((state == asked)[asked == s].mean()) for s in STATES if (asked == s).any()},
        "state of another": float((state == asked)[other].mean()) if other.any() else None,
        "state before": float((before == asked).mean()),
        "state gain": [float(gain.mean()), low, high],
        "drift": float(np.median(own)),
        "drift from source": float(np.median(1 - (features * plain).sum(1))),
    }


def highest_kept(curve: dict[float, dict[str, Any]]) -> float:
    """The highest strength at which, and at all below which, the class is kept; 0 where there is none."""
    found = 0.0
    for strength in sorted(curve):
        if curve[strength]["accuracy"] < KEEP:
            break
        found = strength
    return found


def plain_numbers(entry: dict[str, Any]) -> None:
    """Drop a measurement's arrays over pictures."""
    for name in ("images", "standard drift", "class kept"):
        del entry[name]


def choose_strength(bench: Bench, guidance: float) -> tuple[float, dict[float, dict[str, Any]], dict[float, float]]:
    """On corpus variants: the `id` strength, the curve by strength, and accuracy at the lowest strength by guidance."""
    sources = corpus_sources(bench)
    curve = {s: measure(bench, sources, s, guidance) for s in (0.0, *FINE)}
    gentle = {g: measure(bench, sources, FINE[0], g)["accuracy"] for g in GENTLE}
    for entry in curve.values():
        plain_numbers(entry)
    return highest_kept(curve), curve, gentle


def seeds_differ(bench: Bench, sources: Sources, strength: float, guidance: float) -> dict[str, float]:
    """Root mean square pixel differences (of 255) between five seeds of one source, and of the VAE's round trip."""
    rows = np.linspace(0, len(sources.latents) - 1, min(len(sources.latents), bench.some(48))).astype(int)
    prompts = [sources.prompts[i] for i in rows]
    made = torch.stack(
        [
            bench.edit(f"seed{k}", sources.latents[rows], prompts, strength, guidance, sources.mark, seed=k + 1)
            for k in range(5)
        ]
    )  # (5, N, 3, S, S)
    pairs = [(a, b) for a in range(5) for b in range(a)]
    apart = torch.stack([(made[a] - made[b]).square().mean((1, 2, 3)).sqrt() for a, b in pairs]).mean(0)  # (N,)
    error = (
        (probes.as_tensor(round_trip(bench, sources.images[rows])) - sources.images[rows])
        .square()
        .mean((1, 2, 3))
        .sqrt()
    )
    return {
        "apart": apart.mean().item() * 127.5,
        "vae": error.mean().item() * 127.5,
        "share": float((apart > error).float().mean()),
    }


def sdedit(bench: Bench, own: SdeditSet) -> tuple[list[Figure], dict[str, Any]]:
    """``own`` is the project's `id` set: its guidance is used throughout; its strength for states and seeds."""
    guidance = own.guidance
    strength, corpus, gentle = choose_strength(bench, guidance)
    sources = target_sources(bench)
    used = float(own.strength) if own.strength in FINE else strength or FINE[0]
    curve = {s: measure(bench, sources, s, guidance) for s in sorted({0.0, *FINE, *STRENGTHS})}
    drifts = [curve[s]["drift"] for s in STRENGTHS]
    apart = seeds_differ(bench, sources, used, guidance)
    kept, stated = curve[strength], curve[used]
    plain = float((bench.judge.answers(sources.images, "target") == sources.classes).mean())
    mean, low, high = stated["state gain"]
    far = curve[0.9]
    score = np.concatenate([entry["standard drift"] for entry in curve.values()])
    same = np.concatenate([entry["class kept"] for entry in curve.values()])
    told = auroc(score[same], score[~same])
    figures = [
        Figure(
            "SDEdit: median drift over " + ", ".join(map(str, STRENGTHS)),
            "rises at every step",
            ", ".join(f"{d:.3f}" for d in drifts),
            all(a < b for a, b in itertools.pairwise(drifts)),
            "cosine distance to the 3 nearest real pictures of the class, own part left out; from the source: "
            + ", ".join(f"{curve[s]['drift from source']:.3f}" for s in STRENGTHS),
        ),
        Figure(
            "`id` strength",
            "highest with >= 95 % on corpus variants",
            f"{strength:g}" if strength else "none keeps it",
            strength > 0,
            f"guidance {guidance:g}; corpus variants: "
            + ", ".join(f"{s:g} {percent(v['accuracy'])}" for s, v in corpus.items())
            + f"; at {FINE[0]:g} with less guidance: "
            + ", ".join(f"{g:g} {percent(v)}" for g, v in gentle.items()),
        ),
        Figure(
            "oracle accuracy at the `id` strength, targets",
            ">= 95 %",
            percent(kept["accuracy"]) if strength else "no such strength",
            strength > 0 and kept["accuracy"] >= KEEP,
            f"sources themselves {percent(plain)}; by strength: "
            + ", ".join(f"{s:g} {percent(v['accuracy'])}" for s, v in curve.items()),
        ),
        Figure(
            "state asked for, recognised after the edit and before",
            "clearly above before",
            f"{percent(stated['state'])} against {percent(stated['state before'])}",
            low > 0,
            f"gain {percent(mean)} [{percent(low)}, {percent(high)}] at strength {used:g}, bootstrap over parts; "
            "by strength: " + ", ".join(f"{s:g} {percent(v['state'])}" for s, v in curve.items()),
        ),
        Figure(
            "oracle accuracy at strength 0.9",
            "<= 40 %",
            percent(far["accuracy"]),
            far["accuracy"] <= 0.4,
            f"right family {percent(far['family'])}",
        ),
        Figure(
            "drift tells edits that lost their class",
            "",
            f"AUROC {told:.3f}",
            None,
            f"by the judge, all strengths together: {int((~same).sum())} lost, {int(same.sum())} kept; the VAE's "
            "round trip alone "
            f"drifts by {np.median(curve[0.0]['standard drift']):.1f} class standard deviations (median)",
        ),
        Figure(
            "five seeds from one source against the VAE's error",
            "differ by more",
            f"{apart['apart']:.1f} against {apart['vae']:.1f} (RMS of 255)",
            apart["apart"] > apart["vae"],
            f"strength {used:g}; true of {percent(apart['share'])} of the sources",
        ),
    ]
    for entry in curve.values():
        plain_numbers(entry)
    return figures, {
        "id": strength,
        "drift tells lost class": told,
        "guidance": guidance,
        "gentle": {f"{g:g}": v for g, v in gentle.items()},
        "corpus": {f"{s:g}": v for s, v in corpus.items()},
        "targets": {f"{s:g}": v for s, v in curve.items()},
        "seeds": apart,
    }


def gate(bench: Bench) -> tuple[list[Figure], dict[str, Any]]:
    """Of the project's own edits, what the quality stage let through and what it dropped: how many kept their class?"""
    found = {}
    for name in sorted(bench.settings.sets):
        rows = read_manifest(bench.project / f"data/quality/{name}.csv", VerdictRecord)
        pictures = [read_image(bench.project, r) for r in rows]
        named = bench.judge.answers(to_tensor(pictures, bench.settings.diffusion.size), "target")
        same = named == np.array([r.class_name for r in rows])
        through = np.array([r.verdict == "accept" for r in rows])
        found[name] = {
            key: {"pictures": int(mask.sum()), "kept": float(same[mask].mean()) if mask.any() else None}
            for key, mask in (("all", through | True), ("accepted", through), ("dropped", ~through))
        }

    def tell(name: str) -> str:
        return ", ".join(
            f"{key} {percent(v['kept'])} of {v['pictures']}" for key, v in found[name].items() if v["kept"] is not None
        )

    return [
        Figure(f"edits of `{name}` that kept their class, by verdict", "", tell(name), None) for name in found
    ], found


# --- loading ------------------------------------------------------------------------------------------------------

LOADING = """
import time, sys
import torch
start = time.perf_counter()
from partsynth.core.diffusion.loading import load
import diffusers, transformers
from diffusers import StableDiffusionPipeline, DDIMScheduler
imported = time.perf_counter()
load(sys.argv[1])
print(imported - start, time.perf_counter() - imported)
"""


def loading(bench: Bench) -> tuple[list[Figure], dict[str, Any]]:
    command = [sys.executable, "-c", LOADING, str(bench.base)]
    runs = [
        [float(v) for v in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
        for _ in range(3)
    ]
    libraries, load = (float(np.median([run[k] for run in runs])) for k in range(2))
    size = sum(p.stat().st_size for p in bench.base.rglob("*") if p.is_file()) / 1e6
    return [
        Figure(
            "loading",
            "< 3 s",
            f"{load:.2f} s",
            load < 3,
            f"median of 3 fresh processes; importing diffusers before it takes {libraries:.1f} s",
        ),
        Figure("size of models/base", "<= 40 MB", f"{size:.1f} MB", size <= 40),
    ], {"seconds": load, "imports": libraries, "megabytes": size}


# --- the judge ----------------------------------------------------------------------------------------------------


def train_judge(work: Path, base: Path, workers: int, quick: bool) -> tuple[Any, dict[str, Any]]:
    """The judge and its accuracy on renders it has not seen."""
    targets, variants = probes.target_pictures(work), probes.variant_pictures(work, workers)
    fresh = probes.fresh_pictures(work, workers, 2200)
    wide = {k: v[variants["wide"]] for k, v in variants.items()}
    names = np.array(probes.variant_names())
    none = np.full
    sets = [
        {
            "images": targets["images"],
            "target": targets["classes"][targets["labels"]],
            "variant": none(len(targets["images"]), ""),
            "state": targets["states"],
            "family": targets["families"],
        },
        {
            "images": wide["images"],
            "target": none(len(wide["images"]), ""),
            "variant": names[wide["labels"]],
            "state": wide["states"],
            "family": wide["families"],
        },
        {
            "images": fresh["images"],
            "target": none(len(fresh["images"]), ""),
            "variant": none(len(fresh["images"]), ""),
            "state": fresh["states"],
            "family": fresh["families"],
        },
    ]
    held = [
        np.arange(len(s["images"])) % 5 == 4 for s in sets
    ]  # renders are independent: every fifth is kept for the test
    train = {k: np.concatenate([s[k][~h] for s, h in zip(sets, held, strict=True)]) for k in sets[0]}
    heads = {
        "target": sorted(map(str, targets["classes"])),
        "variant": sorted(map(str, names)),
        "state": list(STATES),
        "family": sorted(set(map(str, fresh["families"]))),
    }
    images = train.pop("images")
    judge = probes.train_judge(work / "judge.safetensors", base / "reference_encoder", heads, images, train, epochs=14)
    found: dict[str, Any] = {}
    for name, part, mask in zip(("targets", "variants", "corpus"), sets, held, strict=True):
        pictures = probes.as_tensor(part["images"][mask])
        for question in heads:
            truth = part[question][mask]
            if not truth[0]:
                continue
            answers = judge.answers(pictures, question)
            found[f"{question}, {name}"] = float((answers == truth).mean())
            if question == "state":
                found[f"state recall, {name}"] = {s: float((answers == truth)[truth == s].mean()) for s in STATES}
    found["trained on"], found["tested on"] = len(images), int(sum(h.sum() for h in held))
    return judge, found


# --- pictures -----------------------------------------------------------------------------------------------------


def contact_sheet(bench: Bench, guidance: float) -> tuple[np.ndarray, list[str], list[str]]:
    """(rows x S, columns x S, 3): a source, the VAE's round trip, then strength x state; and the labels."""
    every = target_sources(bench)
    first = [int(np.nonzero(every.classes == c)[0][0]) for c in sorted(set(every.classes))]
    rows = [i for k, i in enumerate(first) if k % 3 != 2]  # two of each family's three classes
    states = ("brand new", "rusty", "dirty", "broken")
    latents, classes = every.latents[rows], every.classes[rows]
    columns = [as_uint8(every.images[rows]), round_trip(bench, every.images[rows])]
    labels = ["source", "VAE"]
    for strength in STRENGTHS:
        for state in states:
            prompts = [f"a photo of a {state} {token(c)}" for c in classes]
            columns.append(
                as_uint8(bench.edit(f"sheet-{strength}-{state}", latents, prompts, strength, guidance, every.mark))
            )
            labels.append(f"{strength:g}\n{state}")
    sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    return sheet, labels, [str(c) for c in classes]


def text_sheet(bench: Bench, guidance: float) -> tuple[np.ndarray, list[str]]:
    """(5 x S, 15 x S, 3): families by states, from words alone."""
    families = bench.judge.names["family"]
    prompts = [f"a photo of a {s} {word_of(f)}" for s in STATES for f in families]
    made = as_uint8(bench.generate("text sheet", prompts, guidance)).reshape(len(STATES), len(families), *[64, 64, 3])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in made], axis=0), families


def draw(bench: Bench, path: Path, results: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    edits, spoken = results["sdedit"], results["words"]
    sheet, columns, rows = contact_sheet(bench, edits["guidance"])
    text, families = text_sheet(bench, spoken["guidance"])
    figure = plt.figure(figsize=(26, 24))
    grid = figure.add_gridspec(
        3, 3, height_ratios=[5, sheet.shape[0] / sheet.shape[1] * 24 + 0.4, text.shape[0] / text.shape[1] * 24]
    )
    axis = figure.add_subplot(grid[0, 0])
    for name, marker in (("targets", "o"), ("corpus", "s")):
        values = edits[name]
        x = [float(s) for s in values]
        axis.plot(x, [v["accuracy"] for v in values.values()], marker=marker, label=f"class kept, {name}")
    axis.plot(x, [v["state"] for v in edits["targets"].values()], marker="^", ls="--", label="state asked for, targets")
    axis.axhline(KEEP, color="grey", lw=1)
    axis.axvline(edits["id"], color="grey", lw=1, ls=":")
    axis.set(xlabel="strength", ylabel="share recognised by the judge", ylim=(0, 1.02), title="SDEdit: class and state")
    axis.legend()
    axis = figure.add_subplot(grid[0, 1])
    for name, marker in (("targets", "o"), ("corpus", "s")):
        axis.plot(x, [v["drift"] for v in edits[name].values()], marker=marker, label=f"to the class, {name}")
    axis.plot(
        x,
        [v["drift from source"] for v in edits["targets"].values()],
        marker="^",
        ls="--",
        label="from the source, targets",
    )
    axis.set(xlabel="strength", ylabel="median cosine distance", title="SDEdit: drift (reference encoder)")
    axis.legend()
    axis = figure.add_subplot(grid[0, 2])
    table = results["inversion"]["table"]
    for offset, (name, colour) in enumerate((("family", "#0072B2"), ("sibling", "#C14A09"))):
        mean = np.array([r[f"{name} gain"] for r in table])
        y = np.arange(len(table)) + 0.25 * offset
        axis.errorbar(
            mean[:, 0],
            y,
            xerr=[mean[:, 0] - mean[:, 1], mean[:, 2] - mean[:, 0]],
            fmt="o",
            color=colour,
            label=f"{name}'s loss less the own token's",
        )
    axis.axvline(0, color="grey", lw=1)
    axis.set_yticks(range(len(table)), [r["class"] for r in table])
    axis.set(xlabel="denoising loss, held-out parts, 95 % interval", title="Textual inversion")
    axis.legend()
    side = 64
    axis = figure.add_subplot(grid[1, :])
    axis.imshow(sheet, interpolation="nearest")
    axis.set_xticks(np.arange(len(columns)) * side + side / 2, columns, fontsize=9)
    axis.set_yticks(np.arange(len(rows)) * side + side / 2, rows)
    axis.set_title(f"Edits by strength and state (one seed a source, guidance {edits['guidance']:g})")
    axis.xaxis.tick_top()
    axis = figure.add_subplot(grid[2, :])
    axis.imshow(text, interpolation="nearest")
    axis.set_xticks(np.arange(len(families)) * side + side / 2, families)
    axis.set_yticks(np.arange(len(STATES)) * side + side / 2, STATES)
    axis.set_title(f"From words alone: a photo of a <state> <family> (guidance {spoken['guidance']:g})")
    figure.tight_layout()
    figure.savefig(path, dpi=72, metadata={"Software": None})


# --- the run ------------------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = repository.ROOT
    parser.add_argument("--project", type=Path, default=root, help="a project with data/real and models/tokens")
    parser.add_argument("--base", type=Path, default=root / "models/base")
    parser.add_argument("--work", type=Path, default=root / ".work/benchmark", help="renders, judge, pictures: kept")
    parser.add_argument("--out", type=Path, default=root / "benchmarks")
    parser.add_argument("--quick", action="store_true", help="a fifth of the pictures; writes into --work")
    parser.add_argument("--workers", type=int, default=2, help="rendering processes")
    parser.add_argument("--threads", type=int, default=2, help="torch's")
    return parser.parse_args(argv)


def markdown(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    lines = [
        "# The base model, measured",
        "",
        f"`{about['command']}`, commit {about['commit']}, base model {about['base_sha256'][:16]}.",
        "",
    ]
    lines += ["| figure | target | value | |", "|---|---|---|---|"]
    for f in figures:
        verdict = {True: "pass", False: "**miss**", None: ""}[f.passed]
        lines.append(f"| {f.name} | {f.target} | {f.value} | {verdict} |")
    lines += ["", *(f"- {f.name}: {f.note}" for f in figures if f.note), ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    out = args.work if args.quick else args.out
    settings = config_load.load_all(args.project / "params.yaml")
    judge, judged = train_judge(args.work, args.base, args.workers, args.quick)
    location, sha256 = locate_base(str(args.base.absolute()), None, args.project)
    bench = Bench(
        args.work,
        out,
        args.project,
        args.base,
        args.quick,
        args.workers,
        load_diffusion(location),
        reference.load(str(args.base / "reference_encoder")),
        judge,
        sha256,
        settings,
    )
    install_tokens(bench)
    own = settings.sets.get("id", SdeditSet(strength=0.25))
    results: dict[str, Any] = {"judge": judged}
    figures = [
        Figure(
            "judge on unseen renders",
            "",
            f"classes {percent(judged['target, targets'])}, corpus variants {percent(judged['variant, variants'])}, "
            f"states {percent(judged['state, corpus'])} (corpus) {percent(judged['state, targets'])} (targets), "
            f"families {percent(judged['family, corpus'])}",
            None,
            f"trained on {judged['trained on']} renders, tested on {judged['tested on']}",
        )
    ]

    def take(name: str, outcome: tuple[list[Figure], dict[str, Any]]) -> None:
        found, results[name] = outcome
        figures.extend(found)
        for f in found:
            print(
                {True: "pass", False: "MISS", None: "    "}[f.passed],
                f" {f.name}: {f.value}  [{f.target}] {f.note}",
                flush=True,
            )

    take("loading", loading(bench))
    take("reconstruction", reconstruction(bench, probes.target_pictures(args.work)))
    take("words", words(bench, judged))
    take("inversion", inversion(bench, results["words"]["guidance"]))
    take("sdedit", sdedit(bench, own))
    take("gate", gate(bench))
    draw(bench, out / "base_model.png", results)
    about = {
        "command": "python benchmarks/base_model.py" + (" --quick" if args.quick else ""),
        "commit": repository.commit() or "unknown",
        "base_sha256": sha256,
        "reference_sha256": sha256_tree(args.base / "reference_encoder"),
        "tokens": token_marks(bench),
        "project params": json.loads(settings.model_dump_json(include={"tokens", "generate", "sets"})),
    }
    write_json(out / "base_model.json", {"about": about, "figures": [asdict(f) for f in figures], "results": results})
    write_text_atomic(out / "base_model.md", markdown(figures, about))
    missed = [f.name for f in figures if f.passed is False]
    print(f"{len(missed)} missed" + (": " + "; ".join(missed) if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
