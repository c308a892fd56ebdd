"""Credentials, and which header presents them.

Why.  The vendor's clients send ``Authorization: X-Agora-Api-Key <key>``; the vendor's manual writes
``Authorization: Token <key>``. Both kinds of server may exist, so the first is tried, then once the
second, and the one that worked is remembered. A user name and a password are exchanged for a session
token, which the server may forget at any time.

Place.  ``transport`` asks for an ``Authorization`` before each request and reports what came of it. This
module sends nothing itself: the log-in is a function that ``transport`` passes in.

Secrets.  Keys, tokens and passwords live in ``Secret``, which has no readable ``repr`` or ``str``. They are
taken out (``Secret.reveal``) only where a header or the body of a log-in is made.

Threads.  ``Authenticator`` may be used from any thread. ``_changed`` (a condition) guards all its changing
fields and is never held during a request; one thread logs in while the others wait on the condition.

Failure.  A key that can not be a header raises ``UsageError``. A log-in that was refused raises
``NotAuthenticated`` from then on, without asking again (a wrong password repeated locks accounts), until
``replace`` brings another credential.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from requests.auth import AuthBase

from agorafs.errors import ExitStatus, NotAuthenticated, RemoteTimeout, UsageError

if TYPE_CHECKING:
    from requests import PreparedRequest

API_KEY_SCHEME = "X-Agora-Api-Key"
TOKEN_SCHEME = "Token"


class Secret:
    """A text that shows itself only when asked to."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for the header or the body that must carry it, nothing else."""
        return self._text

    def redact(self, text: str) -> str:
        """Return *text* with every occurrence of the secret blotted out."""
        return text.replace(self._text, "***") if self._text else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written down")


def _header_secret(text: str, what: str) -> Secret:
    """Return *text* without surrounding white space, checked to be one word of a header."""
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        # The text itself is not shown: it may be a good key with one bad character.
        raise UsageError(
            f"the {what} is empty or is not one word of plain characters; copy it again from the web profile",
            ExitStatus.CONFIGURATION,
        )
    return Secret(text)


@dataclass(frozen=True, slots=True, init=False)
class ApiKey:
    """A key from the user's profile page; valid until revoked there."""

    key: Secret

    def __init__(self, key: str) -> None:
        object.__setattr__(self, "key", _header_secret(key, "API key"))


@dataclass(frozen=True, slots=True, init=False)
class Token:
    """A session token that somebody else obtained; it can not be renewed here."""

    token: Secret

    def __init__(self, token: str) -> None:
        object.__setattr__(self, "token", _header_secret(token, "token"))


@dataclass(frozen=True, slots=True, init=False)
class Password:
    """A local account of the server; exchanged for a session token."""

    user: str
    password: Secret

    def __init__(self, user: str, password: str) -> None:
        object.__setattr__(self, "user", user)
        object.__setattr__(self, "password", Secret(password))


Credential = ApiKey | Token | Password


class Authorization(AuthBase):
    """What one request presents.

    Every request has one, the empty one (``ANONYMOUS``) included: ``requests`` looks into ``~/.netrc`` for
    a request without, and would send whatever stands there.
    """

    def __init__(self, scheme: str = "", secret: Secret | None = None, generation: int = 0) -> None:
        self.scheme = scheme
        self.secret = secret
        # Which credential this was made from; an answer to an older one says nothing about today's.
        self.generation = generation

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.pop("Authorization", None)
        if self.secret is not None:
            request.headers["Authorization"] = f"{self.scheme} {self.secret.reveal()}"
        return request

    def redact(self, text: str) -> str:
        """Return *text* (something the server said) without the secret, should it have been echoed."""
        return text if self.secret is None else self.secret.redact(text)


ANONYMOUS = Authorization()

LogIn = Callable[[Password], Secret]


class Authenticator:
    """Turns the credential into headers and learns from the server's refusals."""

    def __init__(self, credential: Credential | None) -> None:
        self._changed = threading.Condition()
        # Changing, guarded by _changed:
        self._credential = credential
        self._generation = 0
        self._scheme: str | None = None  # the API key scheme that worked; None while unknown
        self._token: Secret | None = None  # what a log-in gave
        self._is_logging_in = False
        self._log_in_refusal: str | None = None

    def replace(self, credential: Credential | None) -> None:
        """Use *credential* from the next request on."""
        with self._changed:
            self._credential = credential
            self._generation += 1
            self._scheme = None
            self._token = None
            self._log_in_refusal = None
            self._changed.notify_all()

    def authorization(self, log_in: LogIn, wait_s: float) -> Authorization:
        """Return what the next request is to present; logs in if that takes a session token.

        Args:
            log_in: Sends the password, returns the token. Called by one thread at a time.
            wait_s: Longest wait for another thread's log-in.

        Raises:
            NotAuthenticated: The server has refused this user and password.
            RemoteTimeout: Another thread's log-in took too long.
        """
        with self._changed:
            while True:
                credential, generation = self._credential, self._generation
                if credential is None:
                    return ANONYMOUS
                if isinstance(credential, ApiKey):
                    return Authorization(self._scheme or API_KEY_SCHEME, credential.key, generation)
                if isinstance(credential, Token):
                    return Authorization(TOKEN_SCHEME, credential.token, generation)
                if self._token is not None:
                    return Authorization(TOKEN_SCHEME, self._token, generation)
                if self._log_in_refusal is not None:
                    raise NotAuthenticated(self._log_in_refusal)
                if not self._is_logging_in:
                    self._is_logging_in = True
                    break
                if not self._changed.wait(wait_s):
                    raise RemoteTimeout("waited too long for the log-in that another request began")
        token: Secret | None = None
        refusal: str | None = None
        try:
            token = log_in(credential)
        except NotAuthenticated as error:
            refusal = str(error)
            raise
        finally:
            with self._changed:
                self._is_logging_in = False
                if generation == self._generation:  # else ``replace`` came in between
                    self._token, self._log_in_refusal = token, refusal
                self._changed.notify_all()
        return Authorization(TOKEN_SCHEME, token, generation)

    def accepted(self, used: Authorization) -> None:
        """Learn that the server took *used*."""
        with self._changed:
            if used.generation == self._generation and isinstance(self._credential, ApiKey):
                self._scheme = used.scheme

    def alternative(
        self, used: Authorization, status: int, log_in: LogIn, wait_s: float
    ) -> Authorization | None:
        """Return what to present in a second try after *used* got *status* (401 or 403), or None.

        Args, Raises: as ``authorization``, which it may call.
        """
        with self._changed:
            if used.generation == self._generation:
                if isinstance(self._credential, ApiKey):
                    if status == 403 and self._scheme == used.scheme:
                        return None  # this scheme works here, so it is the object that is forbidden
                    other = TOKEN_SCHEME if used.scheme == API_KEY_SCHEME else API_KEY_SCHEME
                    return Authorization(other, self._credential.key, used.generation)
                if not isinstance(self._credential, Password) or status != 401:
                    return None
                if self._token is used.secret:
                    self._token = None  # the server has forgotten it
        return self.authorization(log_in, wait_s)
