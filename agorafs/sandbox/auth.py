"""Who is asking: credentials of a request to a user.

Accepted are ``Authorization: X-Agora-Api-Key <key>``, ``Token <session token or API key>`` (the vendor's manual
shows the latter) and ``Basic``. Passwords are kept as salted scrypt; API keys as they are, because the API
gives them back to their owner.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import sqlite3
from dataclasses import dataclass

# Small on purpose: one check costs about 5 ms, and nothing but demo accounts is protected by it.
_SCRYPT_COST = 1 << 11


@dataclass(frozen=True, slots=True)
class User:
    """The user a request acts for."""

    id: int
    username: str
    is_superuser: bool


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${_derive(password, salt).hex()}"


def password_matches(password: str, stored: str) -> bool:
    salt, _, digest = stored.partition("$")
    return hmac.compare_digest(_derive(password, bytes.fromhex(salt)).hex(), digest)


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT_COST, r=8, p=1)


def authenticate(db: sqlite3.Connection, header: str | None) -> User | None:
    """Return the user an ``Authorization`` header stands for, or None."""
    scheme, _, credentials = (header or "").strip().partition(" ")
    credentials = credentials.strip()
    if not credentials:
        return None
    scheme = scheme.lower()
    if scheme == "x-agora-api-key":
        return _user(db.execute("SELECT * FROM user WHERE api_key = ?", (credentials,)).fetchone())
    if scheme == "token":
        return _user(
            db.execute(
                "SELECT * FROM user WHERE api_key = ?1 OR id = (SELECT user FROM token WHERE key = ?1)",
                (credentials,),
            ).fetchone()
        )
    if scheme == "basic":
        try:
            username, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return check_password(db, username, password)
    return None


def check_password(db: sqlite3.Connection, username: str, password: str) -> User | None:
    row = db.execute("SELECT * FROM user WHERE username = ?", (username,)).fetchone()
    if row is None or not password_matches(password, row["password"]):
        return None
    return _user(row)


def _user(row: sqlite3.Row | None) -> User | None:
    return None if row is None else User(row["id"], row["username"], bool(row["is_superuser"]))
