"""The page: its sections in order, and where the data came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from partsynth.reporting import html
from partsynth.reporting.html import escape

if TYPE_CHECKING:
    pass
from partsynth.reporting.format import flat
from partsynth.reporting.results import PARTS


def data_section(summary: dict[str, Any]) -> str:
    data = summary["data"]
    order = [*(p for p in PARTS if p in data["parts"]), *(p for p in data["parts"] if p not in PARTS)]
    rows = [
        [
            escape(PARTS.get(p, f"augmentation set {p.removeprefix('set_')}")),
            *(data["parts"][p][n] for n in ("pictures", "classes", "groups")),
        ]
        for p in order
    ]
    parts = [html.table("Pictures (n)", ["part", "pictures", "classes", "physical parts or spots"], rows)]
    configs = {repr(r["config"]): r["config"] for r in summary["runs"]}
    shared = flat(next(iter(configs.values())))
    same = {k: v for k, v in shared.items() if all(flat(c).get(k) == v for c in configs.values())}
    parts.append(
        html.details(
            "Training parameters shared by every run",
            html.table(
                "From the models' config.json",
                ["key", "value"],
                [[f"<code>{escape(k)}</code>", escape(v)] for k, v in same.items()],
            ),
        )
    )
    hashes = [[f"<code>{escape(k)}</code>", f"<code>{v}</code>"] for k, v in data["manifests"].items()]
    hashes += [["<code>predictions.csv</code>", f"<code>{summary['predictions_sha256']}</code>"]]
    parts.append(html.details("Hashes of manifests and predictions", html.table("sha256", ["file", "sha256"], hashes)))
    models = [
        [escape(r["setup"]), r["seed"], escape(name), f"<code>{digest}</code>"]
        for r in summary["runs"]
        for name, digest in r["sha256"].items()
    ]
    parts.append(html.details("Hashes of models", html.table("sha256", ["setup", "seed", "file", "sha256"], models)))
    parts.append(
        html.note(
            "A manifest lists every picture with its own sha256, so its hash pins the pictures too. All "
            "figures on this page follow from predictions.csv: <code>partsynth evaluate --from-predictions</code>."
        )
    )
    return "".join(parts)


def document(title: str, summary: dict[str, Any], sections: Sequence[tuple[str, str, str]]) -> str:
    parts = summary["data"]["parts"]
    runs = sum(len(seeds) for seeds in summary["seeds"].values())
    told = [f"{len(summary['setups'])} setups", f"{runs} trained models", f"{parts['train']['classes']} classes"]
    told += [f"{parts['train']['pictures']} real training pictures", f"{parts['test']['pictures']} test"]
    others = {"shifted": "shifted", "near_test": "near-OOD", "far_test": "far-OOD"}
    told += [f"{parts[p]['pictures']} {name}" for p, name in others.items() if p in parts]
    return html.document(title, ", ".join(told) + ".", sections)
