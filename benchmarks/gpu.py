"""What partsynth does on a GPU, in one run of some minutes: measured part by part, each in a process of its own.

    python benchmarks/gpu.py --out FOLDER [--project DEMO] [--only PART ...] [--seconds 350] [--smoke]
    python benchmarks/gpu.py --render FILE [FILE ...]        # their tables, as docs/performance.md has them

Parts: ``same-bytes`` (stage generate by 1, 2 and 3 processes on one GPU, again, in bf16, on the CPU: hashes of all
files and distances of pixels), ``sd15`` (generation in the shape of Stable Diffusion 1.5 with random weights beside
diffusers' pipeline, share of the device's peak), ``compiled`` (the same with its U-Net compiled), peers of `peers.py`
(``step``, ``step-bf16``, ``loss``, ``sdedit``, ``inversion``) and ``step-cpu``, a training step on all of the cores.

``same-bytes`` measures no time, so the U-Net is compiled beside it; everything else runs alone. FOLDER/gpu.json is
written again and again: what a part found before its time was up is kept, and a part that fails stops no other. What
does not fit into ``--seconds`` is not begun, and said so. ``--project``: a finished demo's data/real and models/tokens,
for ``same-bytes``; without it images of noise. ``--smoke``: on the CPU with tiny networks, whether it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import repository
from gpu_parts import GO, PAIRS, READY, SETS, TOGETHER
from repository import ROOT

DENSE = 989.0  # TFLOP/s in bf16 by the datasheet of H100 SXM and H200
HERE = Path(__file__).parent
LIMITS = {  # seconds; in this order
    "same-bytes": 150,
    "compiled": 260,
    "sd15": 150,
    "step": 75,
    "loss": 60,
    "step-bf16": 75,
    "sdedit": 120,
    "step-cpu": 75,
    "inversion": 150,
}
ROUNDS = {"step": 3, "step-bf16": 2, "step-cpu": 1, "loss": 3, "sdedit": 1, "inversion": 1}
LEAST = 20.0  # seconds, with less of which nothing is begun


@dataclass
class Part:
    """One that runs, or has run."""

    name: str
    process: subprocess.Popen
    figures: Path
    printed: Path
    deadline: float
    begun: float = field(default_factory=time.monotonic)

    def told(self) -> dict[str, Any]:
        code = self.process.poll()
        text = self.printed.read_text(errors="replace")
        missed = code == 1 and "Traceback" not in text  # a peer's goal: it is a result
        state = "running" if code is None else "done" if code == 0 or missed else f"ended with {code}"
        told: dict[str, Any] = {"state": state, "seconds": round(time.monotonic() - self.begun, 1)}
        if self.figures.is_file():
            told["figures"] = json.loads(self.figures.read_text())
        if self.name == "step-cpu" and code == 0:
            told["figures"] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        elif code and not missed:
            told["printed"] = text[-2500:]
        return told

    def over(self) -> bool:
        """Whether it has ended; one whose time is up is ended, with its processes."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() > self.deadline:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: it was started in a new session
            self.process.wait()
            return True
        return False


class Session:
    """The parts of one run and their file."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.device = "cpu" if options.smoke else "cuda"
        self.end = time.monotonic() + options.seconds
        self.file = options.out / "gpu.json"
        self.parts: dict[str, Any] = {}

    def command(self, name: str) -> list[str]:
        out, smoke = ["--out", str(self.work / f"{name}.json")], ["--smoke"] if self.options.smoke else []
        own = [sys.executable, str(HERE / "gpu_parts.py"), name, *out, "--device", self.device, *smoke]
        if name == "same-bytes":
            return [*own, "--project", str(self.project()), "--per-class", "1" if smoke else "5"]
        if name == "compiled":
            return [*own, "--meet", str(self.work)]
        if name == "sd15":
            return own
        peers = [sys.executable, str(HERE / "peers.py"), "--rounds", str(1 if smoke else ROUNDS[name])]
        inputs = ["--inputs", str(self.inputs)]
        if name == "step-cpu":
            return [*peers, *inputs, "--measure", "step", *(["--quick"] if smoke else [])]
        only = ["loss-256", "loss-1024", "loss-4096"] if name == "loss" else [name.removesuffix("-bf16")]
        flags = ["--together", "--quick"] if smoke else ["--device", "cuda"]
        flags += ["--dtype", "bfloat16"] if name.endswith("bf16") else []
        return [*peers, *inputs, *out, *flags, "--classes", "2" if smoke else "4", "--only", *only]

    @property
    def inputs(self) -> Path:
        from peer_inputs import make_inputs

        made = self.work / "inputs"
        make_inputs(made, 0)
        return made

    def project(self) -> Path:
        return self.options.project.resolve() if self.options.project else self.inputs / "project"

    def start(self, name: str) -> Part | None:
        left = self.end - time.monotonic()
        if left < LEAST:
            self.parts[name] = {"state": "not begun: no time left"}
            self.write()
            return None
        printed = self.work / f"{name}.txt"
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TORCHINDUCTOR_COMPILE_THREADS": "8"}
        with open(printed, "w") as into:
            process = subprocess.Popen(
                self.command(name),
                stdout=into,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        deadline = min(self.end, time.monotonic() + LIMITS[name] * (4 if self.options.smoke else 1))
        return Part(name, process, self.work / f"{name}.json", printed, deadline)

    def wait(self, part: Part | None) -> None:
        """Until it has ended; its figures are kept meanwhile."""
        if part is None:
            return
        while True:
            over = part.over()
            self.parts[part.name] = part.told()
            self.write()
            if over:
                break
            time.sleep(1)
        state = self.parts[part.name]
        print(f"{part.name}: {state['state']}, {state['seconds']:.0f} s", flush=True)
        if "printed" in state:
            print(state["printed"], flush=True)

    def write(self) -> None:
        draft = self.file.with_suffix(".tmp")
        told = {"commit": self.options.commit, "smoke": self.options.smoke, "parts": self.parts}
        draft.write_text(json.dumps(told, indent=1) + "\n")
        draft.replace(self.file)

    def run(self, names: list[str]) -> None:
        compiled = self.start("compiled") if "compiled" in names else None
        if "same-bytes" in names:
            untimed = self.start("same-bytes")
            if len(names) > 1:
                _ = self.inputs  # made meanwhile
            self.wait(untimed)
        for name in names:
            if name in ("compiled", "same-bytes"):
                continue
            if compiled is not None and ((self.work / READY).exists() or compiled.over()):
                (self.work / GO).touch()
                self.wait(compiled)
                compiled = None
            self.wait(self.start(name))
        if compiled is not None:
            (self.work / GO).touch()
            self.wait(compiled)


# --- tables -----------------------------------------------------------------------------------------------------------


def render(told: dict[str, Any]) -> str:
    figures = {name: part.get("figures") for name, part in told["parts"].items()}
    lines = []
    if sd15 := figures.get("sd15"):
        lines += [*_sd15(sd15, figures.get("compiled") or {}), ""]
    if same := figures.get("same-bytes"):
        lines += [*_same(same), ""]
    lines += [*_training(figures), ""]
    lines += [
        "| work | precision | peer | ours | peer's | ratio | spread | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("sdedit", "inversion", "loss", "step", "step-bf16"):
        for row in figures.get(name) or []:
            low, high = row["spread"]
            unit = "MiB" if "memory" in row["work"] else "s"
            goal = f">= {row['goal']:g}{'' if row['met'] else ', **missed**'}"
            lines.append(
                f"| {row['work']} | {row.get('dtype', 'float32')} | {row['peer']} | {row['ours']:.3g} {unit} | "
                f"{row['theirs']:.3g} {unit} | {row['ratio']:.2f} | {low:.2f} - {high:.2f} | {goal} |"
            )
    states = [f"{name}: {part['state']}" for name, part in told["parts"].items() if part["state"] != "done"]
    return "\n".join([*lines, "", *states])


def _sd15(told: dict[str, Any], compiled: dict[str, Any]) -> list[str]:
    machine, peak, flops = told.get("machine") or {}, told.get("peak") or {}, told.get("unet_flops")
    lines = [f"{', '.join(f'{key} {value}' for key, value in machine.items())}.", ""]
    if "tflops" in peak and isinstance(flops, float):
        lines += [
            f"{peak['side']} cubed in bf16: {peak['tflops']:.0f} TFLOP/s; the U-Net's forward of one image "
            f"{flops / 1e12:.3f} TFLOP, {told.get('forwards')} forwards of 2 for an image.",
            "",
        ]
    one = (told.get("diffusers-bf16-1") or {}).get("images_per_s")
    lines += [
        "| 512 px, strength 0.5, 50 steps, guidance | images/s | spread | times diffusers one a call | of measured "
        f"peak | of {DENSE:g} | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {name: value for name, value in told.items() if isinstance(value, dict) and "images_per_s" in value}
    rows |= {
        f"{name}{'' if name.endswith('compiled') else ' (beside the compiled one)'}": value
        for name, value in compiled.items()
        if isinstance(value, dict) and "images_per_s" in value
    }
    for name, row in rows.items():
        rate, (low, high) = row["images_per_s"], row["spread"]
        shares = ["", ""]
        if "tflops" in peak and isinstance(flops, float):
            work = rate * 2 * told["forwards"] * flops / 1e12  # TFLOP/s
            shares = [f"{work / peak['tflops']:.0%}", f"{work / DENSE:.0%}"]
        memory = f"{(row['mib'] + row['weights_mib']) / 1024:.1f} GiB" if "weights_mib" in row else ""
        times = f"{rate / one:.2f}" if one else ""
        lines.append(f"| {name} | {rate:.2f} | {low:.2f} - {high:.2f} | {times} | {' | '.join(shares)} | {memory} |")
    if isinstance(found := compiled.get("compile_seconds"), float):
        lines += ["", f"Compiled, and {TOGETHER} images made, in {found:.0f} s."]
    for key, words in (("compiled_from_plain", "Compiled against plain"), ("bf16_from_fp32", "bf16 against float32")):
        gap = compiled.get(key) or told.get(key)
        if gap and "max" in gap:
            alike = f"{gap['alike']} of {gap['images']} images alike"
            lines += [f"{words}: {alike}; mean {gap['mean']:.3g}, most {gap['max']} levels."]
    return lines


def _same(told: dict[str, Any]) -> list[str]:
    lines = [
        "| runs | set | images | equal sha256 | furthest pixel | mean | over 1 level |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, two in PAIRS:
        found = told.get(f"{one} = {two}") or {"fault": "not compared"}
        if "fault" in found:
            lines.append(f"| {one}, {two} | {found['fault']} | | | | | |")
            continue
        for name in SETS:
            row = found[name]
            lines.append(
                f"| {one}, {two} | {name} | {row['files']} | {row['same_sha256']} | {row['max']} | {row['mean']:.3g} | "
                f"{row['share_over_1']:.2%} |"
            )
    return lines + [f"{name}: {run['fault']}" for name, run in told.items() if "fault" in run and " = " not in name]


def _training(figures: dict[str, Any]) -> list[str]:
    lines = ["| the demo's training step on | steps/s |", "|---|---|"]
    steps = 100
    for name, words in (("step", "GPU, float32"), ("step-bf16", "GPU, bf16 by autocast")):
        if rows := figures.get(name):
            lines.append(f"| {words} | {steps / rows[0]['ours']:.1f} |")
    if rounds := figures.get("step-cpu"):
        best = min(found["step"]["seconds"] for found in rounds)
        lines.append(f"| all CPU cores, float32 | {steps / best:.1f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, help="folder of gpu.json")
    parser.add_argument("--project", type=Path, help="a finished demo")
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="PART", help=f"of {', '.join(LIMITS)}")
    parser.add_argument("--seconds", type=float, default=350, help="in all")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--commit", default=repository.commit(), help="that the tables name, where there is no git")
    parser.add_argument(
        "--render", type=Path, nargs="+", help="a gpu.json, as tables; of several the last that has a part"
    )
    options = parser.parse_args()
    if options.render:
        told = [json.loads(path.read_text()) for path in options.render]
        print(render({"parts": {name: part for one in told for name, part in one["parts"].items()}}))
        return 0
    if not options.out:
        parser.error("--out is needed")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        session = Session(options, Path(work))
        session.run(options.only or list(LIMITS))
    print(render(json.loads(session.file.read_text())))
    return 0 if all(part["state"] == "done" for part in session.parts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
