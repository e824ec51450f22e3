"""Every stage, every option that names a path: one that leads out of the project is never a traceback."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest
from helpers.cli import run

from partsynth.cli import stages
from partsynth.cli.app import PIPELINE, app

RECORDED = {  # stage -> options whose paths its products keep
    "ingest": {"real", "ood"},
    "adapt": {"out"},
    "tokens": {"out"},
    "generate": {"out"},
    "train": {"real", "selected"},
}
ANYWHERE = ("render", "base")  # make data and a model of no project
PARAMS = "sets: {id: {strength: 0.2}}\nselect: {real: {}}\ningest: {source: folder}\ndiffusion: {adapt: {}}\n"
COMMANDS = {
    command.callback.__name__: command.callback
    for command in app.registered_commands
    if command.callback and command.rich_help_panel == PIPELINE and command.callback.__name__ not in ANYWHERE
}
OPTIONS = [
    (name, option)
    for name, callback in COMMANDS.items()
    for option, hint in typing.get_type_hints(callback).items()
    if hint in (Path, Path | None) and option not in ("params", "from_predictions")
]


def given(name: str, **values: str) -> list[str]:
    """The command with every option that it needs, and these values."""
    words = [name]
    for option, about in inspect.signature(COMMANDS[name]).parameters.items():
        own = {"set_name": "id", "setup": "real", "seed": "0"}.get(option, "here")
        if about.default is about.empty or option in values:
            words += ["--set" if option == "set_name" else f"--{option}", values.get(option, own)]
    return words


def test_all_stages_and_their_options_are_looked_at() -> None:
    assert {name for name, _ in OPTIONS} == set(COMMANDS) >= {"ingest", "tokens", "quality", "train", "report"}
    assert len(OPTIONS) > 40
    assert all((name, option) in OPTIONS for name, options in RECORDED.items() for option in options)


@pytest.mark.parametrize("place", ["/elsewhere/x", "../x"])
@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_path_outside_the_project_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str, place: str
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(root)
    code, out, err = run(*given(name, **{option: place}))
    assert code == 1 and "Traceback" not in out + err and err.startswith("partsynth: ")
    said = f"--{option}: {place} lies outside the project {root}"
    assert (said in err) == (option in RECORDED.get(name, ())), err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["params.yaml", "project"]


def test_a_path_in_the_project_may_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    assert stages.stage("tokens", Path("params.yaml"), "tokens", out=tmp_path / "models" / ".." / "models/tokens")
