"""Templates: everything is escaped in HTML, nothing in Markdown; what is missing is an error, not a blank."""

from __future__ import annotations

import pytest
from jinja2 import DictLoader, UndefinedError

from partsynth.reporting import render


@pytest.fixture(autouse=True)
def templates(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"a.html.j2": "<p>{{ value }}</p>{{ value|breakable }}", "a.md.j2": "{{ value }} {{ share|percent }}"}
    monkeypatch.setattr(render.environment(), "loader", DictLoader(texts))
    monkeypatch.setattr(render.environment(), "cache", {})


def test_html_is_escaped_and_markdown_is_not() -> None:
    assert render.render("a.html.j2", value="<a_b>") == "<p>&lt;a_b&gt;</p>&lt;a_<wbr>b&gt;"
    assert render.render("a.md.j2", value="<a>", share=-0.5) == "<a> −50.0"


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render.render("a.html.j2")
