"""The server's address, checked once.

Why.  The key travels in every request, so a plain ``http`` address of another machine is refused unless
the user insists, and a key is never carried along to another origin. Some sites serve Agora below a path
prefix; the vendor's connector drops it, here it is kept.

Failure.  ``BaseUrl.parse`` raises ``UsageError`` naming the address and the way out.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from agorafs.errors import ExitStatus, ProtocolError, UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_API_PATH = re.compile(r"/api/v\d+/")


def is_loopback(host: str) -> bool:
    """Whether *host* can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name; where it leads is for the resolver, which may be lied to


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """``scheme://host[:port][/prefix]``, without a slash at the end."""

    text: str

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> BaseUrl:
        """Check what the user wrote.

        Args:
            text: Such as ``https://agora.example.org`` or ``https://example.org/agora/``.
            insecure: Accept ``http`` to another machine.
        """
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise UsageError(f"the server's address is not a URL: {error}") from None
        if parts.username is not None or parts.password is not None:
            # Not quoted: it would repeat the password.
            raise UsageError(
                "the server's address contains a user name or password; leave them out and use an API key"
            )
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or " " in parts.netloc:
            raise UsageError(f"{text!r} is not a server address; write it as https://agora.example.org")
        if parts.query or parts.fragment:
            raise UsageError(f"{text!r} is not a server address; leave out everything from '?' or '#' on")
        if parts.scheme == "http" and not insecure and not is_loopback(parts.hostname):
            raise UsageError(
                f"{text} would send the API key unencrypted to another machine; use https://, "
                "or --insecure if you accept that",
                ExitStatus.INSECURE_URL,
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        authority = host if port is None else f"{host}:{port}"
        return cls(f"{parts.scheme}://{authority}{parts.path.rstrip('/')}")

    @property
    def host(self) -> str:
        """The host's name or address, without the port."""
        return urlsplit(self.text).hostname or ""

    def join(self, path: str) -> str:
        """Return the URL of *path* (``/api/…``, already escaped)."""
        return self.text + path

    def is_same_origin(self, url: str) -> bool:
        """Whether *url* leads to this server, so that it may see the credential.

        The step from ``http`` to ``https`` on one host (default ports) counts as the same.
        """
        ours, theirs = _origin(urlsplit(self.text)), _origin(urlsplit(url))
        return ours == theirs or (
            ours[1] == theirs[1]
            and (ours[0], ours[2]) == ("http", 80)
            and (theirs[0], theirs[2]) == ("https", 443)
        )

    def api_path(self, link: str, current_path: str) -> str:
        """Return path and query of a *link* that the server put into an answer to *current_path*.

        Scheme and host are dropped: behind a proxy the server often does not know its own. The prefix
        may be there or not, for the same reason.
        """
        parts = urlsplit(urljoin("http://server" + current_path, link))
        found = _API_PATH.search(parts.path)
        if found is None:
            raise ProtocolError(f"{self.text} sent the link {link!r}, which does not lead into its API")
        path = parts.path[found.start() :]
        return f"{path}?{parts.query}" if parts.query else path
