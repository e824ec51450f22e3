"""benchmarks/gpu.py: its parts end apart from each other, what they found is kept, and its tables say it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import gpu
import gpu_parts
import peers
import pytest
from peer_setting import Setting

FOUND = "import json,sys; json.dump({'peak': {'side': 8, 'tflops': 1.0}}, open(sys.argv[1], 'w'))"
PARTS = {
    "sd15": FOUND,
    "step": "raise ValueError('as it goes')",
    "loss": "import sys, time; open(sys.argv[1], 'w').write('[]'); time.sleep(60)",
    "sdedit": "import sys; print('a goal is missed'); sys.exit(1)",
}


def test_a_part_that_fails_or_takes_too_long_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(session: gpu.Session, name: str) -> list[str]:
        return [sys.executable, "-c", PARTS[name], str(session.work / f"{name}.json")]

    monkeypatch.setattr(gpu.Session, "command", command)
    monkeypatch.setitem(gpu.LIMITS, "loss", 2)
    options = argparse.Namespace(smoke=False, seconds=100, out=tmp_path, commit="abc")
    gpu.Session(options, tmp_path).run(list(PARTS))
    told = json.loads((tmp_path / "gpu.json").read_text())
    parts = told["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "sd15": "done",
        "step": "ended with 1",
        "loss": "ended with -9",
        "sdedit": "done",
    }
    assert "as it goes" in parts["step"]["printed"]
    assert parts["sd15"]["figures"] == {"peak": {"side": 8, "tflops": 1.0}} and parts["loss"]["figures"] == []
    assert "step: ended with 1" in gpu.render(told)


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    options = argparse.Namespace(smoke=False, seconds=gpu.LEAST - 1, out=tmp_path, commit="")
    gpu.Session(options, tmp_path).run(["sd15"])
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == {"sd15": {"state": "not begun: no time left"}}


def test_a_fault_keeps_the_figures_before_it(tmp_path: Path) -> None:
    told = gpu_parts.Told(tmp_path / "part.json")
    told.add("first", 1)
    assert told.attempt("second", lambda: 1 / 0) is None
    assert told.attempt("third", lambda: 3) == 3
    found = json.loads((tmp_path / "part.json").read_text())
    assert found == {"first": 1, "second": {"fault": "ZeroDivisionError: division by zero"}, "third": 3}


def test_the_table_has_the_share_of_the_peak() -> None:
    rate = {
        "images_per_s": 10.0,
        "spread": [9.0, 11.0],
        "images": 32,
        "rounds": 2,
        "mib": 1024.0,
        "weights_mib": 2048.0,
    }
    one = rate | {"images_per_s": 2.0}
    figures = {"peak": {"side": 8192, "tflops": 800.0}, "unet_flops": 0.8e12, "forwards": 25}
    told = {"sd15": {"state": "done", "figures": figures | {"ours-bf16-16": rate, "diffusers-bf16-1": one}}}
    # 10 images/s x 25 forwards x 2 x 0.8 TFLOP = 400 TFLOP/s
    assert "| ours-bf16-16 | 10.00 | 9.00 - 11.00 | 5.00 | 50% | 40% | 3.0 GiB |" in gpu.render({"parts": told})


def test_rows_of_a_gpu_name_it() -> None:
    group = peers.GROUPS["step"]
    sides = {"step": {"seconds": 2.0}, "bare-step": {"seconds": 1.5}, "plain-loop": {"seconds": 4.0}}
    first, second = peers.rows(group, [sides], False, Setting(Path(), device="cuda", dtype="bfloat16"))
    assert (first["ratio"], first["met"], second["ratio"], second["met"]) == (0.75, False, 2.0, True)
    assert (second["ours"], second["theirs"], second["device"], second["dtype"]) == (2.0, 4.0, "cuda", "bfloat16")
    assert "device" not in peers.rows(group, [sides], False, Setting(Path()))[0]
