"""The RSA key by which a phone knows this computer. Keys are never logged, and never copied elsewhere."""

from __future__ import annotations

import base64
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adb_shell.auth.keygen import get_user_info
from adb_shell.auth.sign_cryptography import CryptographySigner

from nasflow.base.errors import MachineError
from nasflow.base.files import home_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_KEY_BITS = 2048


def default_key() -> Path:
    """``~/.android/adbkey``, which Google's adb uses too: a phone approves both at once.

    Raises MachineError where this account has no home.
    """
    return home_folder() / ".android" / "adbkey"


def ensure_key(path: Path) -> bool:
    """Make an RSA key pair (0600) where there is none; True if one was made. Raises MachineError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        if path.exists():
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adbkey-", dir=path.parent) as folder:  # 0700
            made = Path(folder) / "adbkey"
            key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
            made.touch(mode=0o600)
            made.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            Path(f"{made}.pub").write_bytes(public_line(key))
            with suppress(FileExistsError):  # another program was quicker: its key is as good
                os.link(made, path)
                Path(f"{made}.pub").replace(f"{path}.pub")
    except OSError as error:
        raise MachineError(
            f"the adb key {path} cannot be created: {error.strerror or error}.",
            hint=f"Make {path.parent} writable for your account, or set HOME to a writable folder.",
        ) from error
    return True


def public_line(key: RSAPrivateKey) -> bytes:
    """The public half as Android writes it: base64 of its ``RSAPublicKey`` struct, then user@host."""
    numbers = key.public_key().public_numbers()
    word = 1 << 32
    size = _KEY_BITS // 8
    packed = struct.pack(
        f"<LL{size}s{size}sL",
        size // 4,
        word - pow(numbers.n, -1, word),
        numbers.n.to_bytes(size, "little"),
        pow(1 << _KEY_BITS, 2, numbers.n).to_bytes(size, "little"),
        numbers.e,
    )
    owner: str = get_user_info()
    return base64.b64encode(packed) + owner.encode()


class Signer(CryptographySigner):
    """Signs with an adb key. The public half is computed, for its file may be missing."""

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        reason = "it is not an unencrypted RSA key of 2,048 bits"
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        except (ValueError, TypeError) as error:
            raise _unreadable(path, reason) from error
        if not isinstance(key, RSAPrivateKey) or key.key_size != _KEY_BITS:
            raise _unreadable(path, reason)
        self.rsa_key = key
        self.public_key = public_line(key)


def _unreadable(path: Path, reason: str) -> MachineError:
    return MachineError(
        f"the adb key {path} cannot be read: {reason}.",
        hint="Make it readable for your account, or move it away: nasflow then creates a new key, "
        "and the phone asks for approval again.",
    )
