"""Version, login, API keys, users, groups, vendors, roles, log files."""

from __future__ import annotations

from agorafs.sandbox import auth, objects, serialise
from agorafs.sandbox.calls import (
    Answer,
    ApiError,
    Call,
    ContentAnswer,
    ForbiddenError,
    NotFoundError,
    Route,
)
from agorafs.sandbox.contents import sha1_of
from agorafs.sandbox.lists import answer_list
from agorafs.sandbox.request_log import log_files
from agorafs.sandbox.store import new_api_key, new_token

_TRUE_WORDS = ("true", "1", "on", "yes")


def get_version(call: Call) -> Answer:
    return Answer(200, {"version": call.switches.text("version"), "server": "agora-emulator"})


def get_current_user(call: Call) -> Answer:
    rows = call.db.execute("SELECT * FROM user WHERE id = ?", (call.me.id,)).fetchall()
    return Answer(200, serialise.users(call, rows)[0])


def log_in(call: Call) -> Answer:
    user = auth.check_password(call.db, call.text("username"), call.text("password"))
    if user is None:
        raise ApiError(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
    token = new_token()
    objects.insert(call.db, "token", {"key": token, "user": user.id})
    return Answer(200, {"key": token})


def get_api_key(call: Call) -> Answer:
    row = call.db.execute("SELECT api_key FROM user WHERE id = ?", (call.me.id,)).fetchone()
    if row["api_key"] is None:
        raise NotFoundError
    return Answer(200, {"key": row["api_key"]})


def create_api_key(call: Call) -> Answer:
    key = new_api_key()
    call.db.execute("UPDATE user SET api_key = ? WHERE id = ?", (key, call.me.id))
    return Answer(201, {"key": key})


def list_users(call: Call) -> Answer:
    rows = call.db.execute("SELECT * FROM user ORDER BY id")
    return answer_list(
        call,
        rows,
        lambda page: serialise.users(call, page),
        fields={"id": "number", "username": "text", "email": "text"},
    )


def get_user(call: Call) -> Answer:
    rows = call.db.execute("SELECT * FROM user WHERE id = ?", (call.id,)).fetchall()
    if not rows:
        raise NotFoundError
    return Answer(200, serialise.users(call, rows)[0])


def create_user(call: Call) -> Answer:
    if not call.me.is_superuser:
        raise ForbiddenError
    username, password = call.text("username"), call.text("password")
    missing = {
        name: ["This field is required."]
        for name, value in (("username", username), ("password", password))
        if not value
    }
    if missing:
        raise ApiError(400, missing)
    if call.db.execute("SELECT 1 FROM user WHERE username = ?", (username,)).fetchone() is not None:
        raise ApiError(400, {"username": ["A user with that username already exists."]})
    user = objects.create_user(
        call.db,
        call.store.now(),
        username,
        auth.hash_password(password),
        api_key=None,
        email=call.text("email"),
        first_name=call.text("first_name"),
        last_name=call.text("last_name"),
        is_superuser=int(call.text("is_superuser").lower() in _TRUE_WORDS),
    )
    rows = call.db.execute("SELECT * FROM user WHERE id = ?", (user,)).fetchall()
    return Answer(201, serialise.users(call, rows)[0])


def _named(call: Call, names: dict[int, str]) -> Answer:
    """Answer a fixed table of numbers and names as a list."""
    marks = " UNION ALL ".join("SELECT ? AS id, ? AS name" for _ in names)
    rows = call.db.execute(marks, [part for pair in names.items() for part in pair])
    return answer_list(
        call,
        rows,
        lambda page: [{"id": row["id"], "name": row["name"]} for row in page],
        fields={"id": "number", "name": "text"},
    )


def list_groups(call: Call) -> Answer:
    return _named(call, {1: "users"})


def list_vendors(call: Call) -> Answer:
    return _named(call, objects.VENDORS)


def list_roles(call: Call) -> Answer:
    return _named(call, objects.ROLES)


def _require_administrator(call: Call) -> None:
    if not call.me.is_superuser:
        raise ForbiddenError


def list_log_files(call: Call) -> Answer:
    _require_administrator(call)
    bodies = [
        {"id": number, "filename": path.name, "size": path.stat().st_size}
        for number, path in log_files(call.store.directory).items()
    ]
    return answer_list(call, bodies, list, fields={"id": "number", "filename": "text"})


def get_log_file(call: Call) -> ContentAnswer:
    """Answer a log file as it is now, which this request is not yet in."""
    _require_administrator(call)
    path = log_files(call.store.directory).get(call.id)
    if path is None:
        raise NotFoundError
    return ContentAnswer(sha1_of(path), path.stat().st_size, "text/plain", path)


ROUTES = (
    Route("GET", "version", get_version, public=True),
    Route("POST", "rest-auth/login", log_in, public=True),
    Route("GET", "user/current", get_current_user),
    Route("GET", "apikey", get_api_key),
    Route("POST", "apikey", create_api_key),
    Route("GET", "user", list_users),
    Route("POST", "user", create_user),
    Route("GET", "user/{id}", get_user),
    Route("GET", "groups", list_groups),
    Route("GET", "scannervendor", list_vendors),
    Route("GET", "logfile", list_log_files),
    Route("GET", "logfile/{id}/content", get_log_file),
    Route("GET", "projectrole", list_roles),
)
