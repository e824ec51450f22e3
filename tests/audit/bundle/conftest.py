from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import small_project

from partsynth.audit.bundle.export import Inputs, export

RUN = "real_id_negatives-seed0"
CARD = "origin: our line\nlicence: CC-BY-4.0\npurpose: to sort gears\ngaps: no rust\n"


@pytest.fixture(scope="session")
def carded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished small project with a data card; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    root = small_project.copy(small_project.finished(base), tmp_path_factory.mktemp("carded") / "project")
    (root / "data/card.yaml").write_text(CARD)
    return root


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("key") / "key.pem")


def write_key(path: Path, password: bytes | None = None) -> Path:
    """A private key of P-256."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    hidden = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    made = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(made.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden))
    return path


@pytest.fixture(scope="session")
def whole(carded: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed export with its images; not to be changed."""
    pytest.importorskip("model_signing")
    out = tmp_path_factory.mktemp("whole") / "export"
    export(Inputs(root=carded, out=out, run=RUN, images=True, key=key))
    return out


@pytest.fixture
def copied_export(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "export"))


@pytest.fixture
def summed(copied_export: Path) -> Callable[[str, str, str], Path]:
    """Replace a text in a file of the copied export and sum it all again, as a forger would."""
    from partsynth.audit.bundle.export import SUMS, _sums

    def change(name: str, before: str, after: str) -> Path:
        text = (copied_export / name).read_text()
        assert before in text
        (copied_export / name).write_text(text.replace(before, after, 1))
        (copied_export / SUMS).write_text("".join(_sums(copied_export)))
        return copied_export

    return change
