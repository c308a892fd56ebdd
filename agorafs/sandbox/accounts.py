"""The accounts a fresh sandbox has: an administrator, a scientist and an observer, each with an API key.

Passwords equal the user names: the server listens on loopback and holds demo data. ``scientist`` and ``observer``
are members of nothing but their own My Agora until somebody adds them; the demo content does.
"""

from __future__ import annotations

from agorafs.sandbox import auth, objects
from agorafs.sandbox.store import Store, new_api_key, new_token

FIRST_USERS = ("admin", "scientist", "observer")


def ensure_users(store: Store) -> dict[str, str]:
    """Create the first users in an empty store; return the API keys of all users who have one."""
    with store.transaction() as db:
        if db.execute("SELECT 1 FROM user").fetchone() is None:
            for username in FIRST_USERS:
                objects.create_user(
                    db,
                    store.now(),
                    username,
                    auth.hash_password(username),
                    api_key=new_api_key(),
                    is_superuser=int(username == "admin"),
                )
        rows = db.execute("SELECT username, api_key FROM user ORDER BY id").fetchall()
    keys: dict[str, str] = {row["username"]: row["api_key"] for row in rows if row["api_key"]}
    keys.setdefault("admin", "")  # revoked and not renewed
    return keys


def control_token(store: Store) -> str:
    """Return the token of the tests' side door; it stays the same for one data directory."""
    token = store.setting("control-token", new_token)
    assert token is not None
    return token
