"""Damaged files are named in one sentence, whatever is wrong with them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partsynth.errors import UserError
from partsynth.store.reading import JsonObject, lacking, parse_yaml, read_json, read_object, read_tensors
from partsynth.store.tensors import write_safetensors

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is not valid JSON"),
        (b'{"a": 1', "is not valid JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "has the key 'a' twice"),
        (b'{"a": {"b": 1, "b": 1}}', "has the key 'b' twice"),
        (b"[" * 100_000 + b"]" * 100_000, "is not valid JSON"),
        (b"1" * 5000, "is not valid JSON"),
        ('{"a": "ä"}'.encode("latin-1"), "is no JSON in UTF-8"),
        ("{}".encode("utf-16"), "is no JSON in UTF-8"),
        (b"[]", "must hold an object"),
        (b"null", "must hold an object"),
    ],
)
def test_damaged_json_is_named(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=told) as caught:
        read_object(path)
    assert str(caught.value).startswith(str(path))


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    try:
        found = read_json(path)
    except UserError as error:
        assert "any.json" in str(error)
    else:
        assert found == json.loads(data)


def test_a_key_that_lacks_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"tags": {"setup": "real"}, "seed": true}')
    found = read_object(path)
    assert found == {"tags": {"setup": "real"}, "seed": True} and found.get("run_id") is None
    for ask in (lambda: found["run_id"], lambda: found["tags"]["seed"]):
        with pytest.raises(UserError, match=r"run\.json has no key '(run_id|seed)'"):
            ask()
    with pytest.raises(KeyError):  # who catches that goes on doing so
        found["run_id"]
    with pytest.raises(UserError, match="seed should be a whole number, found true"):
        lacking(path, found, {"tags": dict, "seed": int})
    assert type(pickle.loads(pickle.dumps(found))) is dict and isinstance(found["tags"], JsonObject)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands there twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: the key 'b' stands there twice"),
        ("a: &x {b: *x}\n", "line 1: an alias"),
        (LAUGHS, "stands for more than 200000 values"),
        ("[" * 50_000, "is not valid YAML"),
        ("a: [1\n", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
        ("a: 2001-99-99\n", "is not valid YAML"),
        ("a: \0\n", "is not valid YAML"),
    ],
)
def test_damaged_yaml_is_named(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        parse_yaml(text, "params.yaml")
    assert str(caught.value).startswith("params.yaml")


def test_sound_yaml_is_read_as_ever() -> None:
    assert parse_yaml("", "x") is None
    text = "base: &b {x: 1, y: [1.5, null]}\nother:\n  <<: *b\n  x: 2\nagain: *b\n1: one\n"
    assert parse_yaml(text, "x") == {
        "base": {"x": 1, "y": [1.5, None]},
        "other": {"x": 2, "y": [1.5, None]},
        "again": {"x": 1, "y": [1.5, None]},
        1: "one",
    }


def test_damaged_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    with pytest.raises(UserError, match=r"encoder\.safetensors is missing"):
        read_tensors(path)
    write_safetensors(path, {"w": torch.tensor([1.0, float("nan")])}, {})
    with pytest.raises(UserError, match=r"encoder\.safetensors holds numbers that are none \(NaN\) in w"):
        read_tensors(path)
    assert read_tensors(path, finite=False)["w"][0] == 1
    whole = path.read_bytes()
    for data in (b"", whole[:20], b"\xff" * 64, (2**40).to_bytes(8, "little") + whole[8:]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"encoder\.safetensors holds no whole tensors"):
            read_tensors(path)
