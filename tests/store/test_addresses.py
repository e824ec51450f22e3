"""Addresses without their passwords."""

from __future__ import annotations

import pytest

from partsynth.store.addresses import awkward, masked

HIDDEN = [
    "postgresql://me:s3cret@host/studies",
    "postgresql+psycopg2://me:s3cret/more@host:5432/studies",
    "mysql://me:s3@cret@host/studies",
    "postgresql://me:a?s3cret@host/studies",
    "postgresql://:s3cret@host/studies",
    "postgresql://me@host/studies?password=s3cret",
    "postgresql://host/studies?sslmode=require&sslpassword=s3cret&x=1",
    "https://me:s3cret@mlflow.example.com/",
    "cannot open postgresql://me:s3cret@host/a and again postgresql://me:s3cret@host/b",
]


@pytest.mark.parametrize("address", HIDDEN)
def test_no_password_is_shown(address: str) -> None:
    shown = masked(address)
    assert "***" in shown and "s3" not in shown and "cret" not in shown
    assert "more" not in shown


@pytest.mark.parametrize("address", [".work/study.journal", "postgresql://me@host:5432/studies", "http://host:5000"])
def test_what_holds_no_password_stays(address: str) -> None:
    assert masked(address) == address


def test_passwords_that_must_be_escaped() -> None:
    assert awkward("postgresql://me:a/b@host/x") and awkward("postgresql://me:a@b@host/x")
    assert not awkward("postgresql://me:ab@host/x") and not awkward("postgresql://me@host:1/x")
