"""The whole command line: it fits dvc.yaml, answers fast, and explains itself."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from partsynth import __version__
from partsynth.cli.main import app

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
COMMAND = typer.main.get_command(app)


# given in dvc.yaml, but not in that of projects made before
OPTIONAL = {"train": {"--record"}, "select": {"--review"}, "report": {"--review", "--adapted", "--card"}}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_dvc_yaml_is_a_command_with_just_these_options(stage: str) -> None:
    words = shlex.split(re.sub(r"\$\{[^}]*\}", "0", STAGES[stage].get("do", STAGES[stage])["cmd"]))
    assert words[:2] == ["partsynth", stage]
    command = COMMAND.commands[stage]
    command.make_context(stage, words[2:])  # raises where an option is unknown, missing or of the wrong type
    needed = {option for p in command.params if p.required for option in p.opts}
    assert needed | OPTIONAL.get(stage, set()) == {w for w in words if w.startswith("--")}


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "pandas", "mlflow", "dvc", "great_expectations", "diffusers", "yaml")
    code = (
        "import sys\nfrom partsynth.cli import main as cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass\n"
        f"print('LOADED', [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for stage in STAGES:
        assert stage in done.stdout


@pytest.mark.parametrize("path", list(COMMAND.commands), ids=str)
def test_every_command_and_option_has_help(path: str) -> None:
    command = COMMAND.commands[path]
    for each in [command, *getattr(command, "commands", {}).values()]:
        assert each.help
        if each.name != "diff":
            assert all(getattr(p, "help", "") for p in each.params if p.name != "help"), each.name


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'partsynth.cli.audit': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from partsynth.cli.main import main\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_twice_while_it_works_is_no_traceback() -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground of a shell\n"
        "from partsynth.cli.main import main\n"
        "import partsynth.project.check as check\n"
        "def work(*_):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    while True: time.sleep(0.01)\n"  # another thread may have been given the signal
        "check.check = work\n"
        "import typer; echo = typer.echo\n"
        "def again(*a, **k): os.kill(os.getpid(), signal.SIGINT); echo(*a, **k)\n"
        "typer.echo = again\n"
        "sys.argv = ['partsynth', 'check']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and "stopped" in done.stderr
    assert "Traceback" not in done.stderr and "Aborted" not in done.stderr


def test_ctrl_c_before_a_command_begins_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """While typer reads the commands' signatures."""
    from partsynth.cli import main as cli

    def interrupted() -> None:
        raise KeyboardInterrupt

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(cli, "app", interrupted)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert ended.value.code == 130


def test_the_version_is_told_and_the_package_can_be_run() -> None:
    told = subprocess.run([sys.executable, "-m", "partsynth", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"partsynth {__version__}\n"
