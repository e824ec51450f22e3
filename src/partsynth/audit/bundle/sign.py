"""An OpenSSF model signature with a key of the user's own; nothing is asked of any server."""

from __future__ import annotations

import os
from pathlib import Path

from partsynth.errors import UserError

SIGNATURE, PUBLIC, SUMS = "model.sig", "model.pub", "SHA256SUMS"
PASSWORD = "PARTSYNTH_KEY_PASSWORD"  # environment variable; of an encrypted key


class Key:
    """A private elliptic-curve key (PEM; P-256, P-384 or P-521), read and tried before anything is written.

    Raises
    ------
    UserError
        where the extra is not installed, or the file holds no such key.
    """

    def __init__(self, path: Path) -> None:
        try:
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import ec
            from model_signing import signing
        except ImportError as error:
            raise UserError(f'--key needs the package {error.name}: pip install "partsynth[provenance]"') from None
        self.path, self._config = path, signing.Config
        password = os.environ.get(PASSWORD)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password.encode() if password else None)
        except OSError as error:
            raise UserError(f"--key {path}: {error.strerror or error}") from None
        except TypeError:
            told = (
                f"its password is wanted in {PASSWORD}"
                if password is None
                else f"it has no password, but {PASSWORD} is set"
            )
            raise UserError(f"--key {path}: {told}") from None
        except ValueError:
            raise UserError(f"--key {path}: no private key in PEM, or another password than in {PASSWORD}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in (
            "secp256r1",
            "secp384r1",
            "secp521r1",
        ):
            raise UserError(f"--key {path}: not an elliptic-curve key of P-256, P-384 or P-521")
        self._password = password
        self.public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, folder: Path) -> None:
        """Write ``model.sig`` over all files of ``folder`` but itself and SHA256SUMS, which is written after it."""
        from model_signing import hashing

        ignored = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE, folder / SUMS], ignore_git_paths=False)
        config = self._config().use_elliptic_key_signer(private_key=self.path, password=self._password)
        config.set_hashing_config(ignored).sign(folder, folder / SIGNATURE)
