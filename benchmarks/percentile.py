"""Is the drift percentile one? That of held-out real images beside the uniform distribution, with its chance bands.

An image of the class should lie anywhere between 0 and 1, equally often. Looked at are the test images, which quality
has not seen, measured as an edit is without one training group of their class, and the training images without their
own, as an edit that changed nothing would be. (Validation images calibrate: among each other they are uniform whatever
the score, and tell nothing.) Projects are finished ones, a demo or a benchmark's replicates; their images are pooled.

    python benchmarks/percentile.py --projects .work/benchmark/benchmark/all-seed*

writes reports/percentile.png and .json. Two bands of 95 %, at each level: the binomial one, as if every image were a
part of its own and the calibrating images endless; and a wider one, drawn from parts and calibrating parts as few as
they are, where all images of a part, and an image in several projects, fall alike.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import repository

LEVELS = np.round(np.arange(0.01, 1.0, 0.01), 2)
TOLD = (0.05, 0.25, 0.5, 0.75, 0.95)
TITLES = {"test": "test images", "train": "training images without their own part"}
DRAWS = 1000  # of the wider band


@dataclass(frozen=True)
class Held:
    """Held-out images of one project, and the images that calibrate them."""

    percentiles: np.ndarray  # (m,)
    parts: np.ndarray  # (m,) which physical part, by the hash of its first image
    among: np.ndarray  # (n,) the parts of the calibrating images


def expected(level: float, held: Sequence[Held]) -> float:
    """Share of percentiles up to a level where they are uniform: on their grid of n + 1, pooled."""
    counts = np.array([len(one.among) for one in held])
    sizes = np.array([len(one.percentiles) for one in held])
    return float(np.average(np.floor(level * (counts + 1) + 1e-9) / (counts + 1), weights=sizes))


def of_project(root: Path) -> dict[str, Held]:
    """Percentiles of a project's test and training images.

    Raises
    ------
    UserError
        where images are missing or altered, or the project has no test or no validation images.
    """
    from partsynth.config.load import load_all
    from partsynth.core.drift import leave_out
    from partsynth.core.drift.calibration import conformal_percentiles, drift_scores
    from partsynth.core.drift.distances import class_distances
    from partsynth.errors import UserError
    from partsynth.quality.features import Encoder
    from partsynth.quality.measure import measure
    from partsynth.quality.real_parts import calibrated, columns, measure_real, real_parts
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.layout import MANIFEST, REAL

    params = load_all(root / "params.yaml")
    known = real_parts(root / REAL)
    classes = {row.class_name for row in known if row.split == "train"}
    every = read_manifest(root / REAL / MANIFEST, RealRecord)
    test = [row for row in every if row.split == "test" and row.class_name in classes]
    if not test:
        raise UserError(f"{root / REAL / MANIFEST} has no test images")
    embed = Encoder(params.reference, root)
    measured, views = measure_real(known, params.quality, root, embed)
    bank, calibration = calibrated(known, measured.features, params.quality, views)
    training = [i for i, row in enumerate(known) if row.split == "train"]
    seen = measure(test, root, embed, params.reference.batch_size, embed.folder / "percentile-test.safetensors")

    first: dict[tuple[str, str], str] = {}
    for row in every:
        key = row.class_name, row.group
        first[key] = min(first.get(key, row.sha256), row.sha256)

    def parts(rows: Sequence[Any]) -> np.ndarray:
        return np.array([first[row.class_name, row.group] for row in rows])

    among = parts([row for row in known if row.split == "val"])

    def held(rows: Sequence[Any], features: np.ndarray, left_out: tuple[np.ndarray, np.ndarray]) -> Held:
        distances = class_distances(features, *left_out, bank, params.quality.neighbours)
        scores = drift_scores(distances, columns(rows)[1], bank.kinds, calibration)
        return Held(conformal_percentiles(scores, calibration.drift), parts(rows), among)

    names, kinds, _ = columns(test)
    own = [known[i] for i in training]
    return {
        "test": held(test, seen.features, leave_out.drawn(names, kinds, bank)),
        "train": held(own, measured.features[training], (bank.names, bank.groups)),
    }


def binomial(level_shares: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the shares that a binomial of ``count`` images has in 95 cases of 100."""
    from scipy.stats import binom

    return binom.ppf(0.025, count, level_shares) / count, binom.ppf(0.975, count, level_shares) / count


def by_parts(held: Sequence[Held], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The same (L,) where parts are drawn: one uniform score per part, whichever projects it is in."""
    from partsynth.core.drift.calibration import conformal_percentiles

    everything = np.unique(np.concatenate([np.concatenate([one.parts, one.among]) for one in held]))
    places = [(np.searchsorted(everything, one.parts), np.searchsorted(everything, one.among)) for one in held]
    rng, shares = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        drawn = rng.random(len(everything))
        pooled = [conformal_percentiles(drawn[mine], drawn[among]) for mine, among in places]
        shares.append(distribution(np.concatenate(pooled)))
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    return low, high


def distribution(values: np.ndarray) -> np.ndarray:
    """Share (L,) of the values up to each level."""
    return np.searchsorted(np.sort(values), LEVELS + 1e-9, side="right") / len(values)


def summary(held: Sequence[Held]) -> dict[str, Any]:
    """Shares up to each level, what uniform percentiles would have, both bands, and in how many levels they hold."""
    pooled = np.concatenate([one.percentiles for one in held])
    uniform = np.array([expected(level, held) for level in LEVELS])
    shares, near, wide = distribution(pooled), binomial(uniform, len(pooled)), by_parts(held)
    return {
        "images": len(pooled),
        "parts": len(np.unique(np.concatenate([one.parts for one in held]))),
        "calibrated_on": [len(one.among) for one in held],
        "mean": float(pooled.mean()),
        "beyond_0.95": float((pooled > 0.95).mean()),
        "levels": LEVELS.tolist(),
        "share": shares.tolist(),
        "uniform": uniform.tolist(),
        "binomial": [end.tolist() for end in near],
        "parts_band": [end.tolist() for end in wide],
        "within_binomial": float(((shares >= near[0]) & (shares <= near[1])).mean()),
        "within_parts_band": float(((shares >= wide[0] - 1e-9) & (shares <= wide[1] + 1e-9)).mean()),
    }


def draw(found: Mapping[str, Mapping[str, Any]], about: str) -> bytes:
    """PNG: for each kind of held-out image the distribution, and below it what it differs from uniform by."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from partsynth.reporting.figures import COLOURS, STYLE

    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(5.2 * len(found), 7.4), layout="constrained", facecolor="white")
        FigureCanvasAgg(made)
        axes = made.subplots(2, len(found), squeeze=False, sharex=True, height_ratios=[3, 2])
        for column, (name, of) in enumerate(found.items()):
            levels, uniform = np.array(of["levels"]), np.array(of["uniform"])
            for row, axis in enumerate(axes[:, column]):
                away = uniform if row else 0 * uniform
                for (low, high), shade, label in (
                    (of["parts_band"], "#e3e6ea", "95 %, parts and calibration drawn"),
                    (of["binomial"], "#b9d7ea", "95 %, binomial"),
                ):
                    ends = 100 * (np.array(low) - away), 100 * (np.array(high) - away)
                    axis.fill_between(levels, *ends, color=shade, linewidth=0, label=label)
                axis.plot(levels, 100 * (uniform - away), color="#6b7280", linewidth=0.9, label="uniform")
                axis.plot(levels, 100 * (np.array(of["share"]) - away), color=COLOURS[0], label="real images")
                axis.set_ylabel("less uniform, points" if row else "share up to the percentile, %")
            axes[0, column].set_title(TITLES[name].capitalize())
            told = f"{of['images']} images of {of['parts']} parts: mean {of['mean']:.3f}, "
            axes[1, column].set_xlabel(f"drift percentile\n{told}beyond 0.95: {100 * of['beyond_0.95']:.1f} %")
        axes[0, 0].legend(loc="upper left")
        made.suptitle(about, x=0.01, ha="left", fontsize=10.5)
        buffer = io.BytesIO()
        made.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """For the terminal: of each kind of image the share up to some levels, with the bands, in per cent."""
    lines = []
    for name, of in found.items():
        lines.append(f"{TITLES[name]}: {of['images']} of {of['parts']} parts, mean percentile {of['mean']:.3f}")
        for level in TOLD:
            i = of["levels"].index(level)
            bands = [f"{100 * of[band][0][i]:.1f} to {100 * of[band][1][i]:.1f}" for band in ("binomial", "parts_band")]
            lines.append(f"  up to {level:g}: {100 * of['share'][i]:.1f} %  (binomial {bands[0]}, parts {bands[1]})")
        lines.append(
            f"  levels within the binomial band {100 * of['within_binomial']:.0f} %, within the parts' one "
            f"{100 * of['within_parts_band']:.0f} %"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    from partsynth.errors import UserError
    from partsynth.store.files import write_bytes_atomic, write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="finished projects")
    parser.add_argument("--out", type=Path, default=Path("reports/percentile"), help="without suffix")
    args = parser.parse_args(arguments)
    try:
        ones = [of_project(root.resolve()) for root in args.projects]
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    found = {name: summary([one[name] for one in ones]) for name in TITLES}
    told = {
        "command": shlex.join(["python", os.path.relpath(__file__), *(arguments or sys.argv[1:])]),
        "git_commit": repository.commit(repository.WHOLE),
        "projects": [os.fspath(root) for root in args.projects],
        "of": found,
    }
    write_json(args.out.with_suffix(".json"), told)
    about = f"Drift percentile of held-out real images, {len(ones)} project(s)"
    write_bytes_atomic(args.out.with_suffix(".png"), draw(found, about))
    print(table(found))


if __name__ == "__main__":
    main()
