"""What ``requests`` is set up to do, and kept from doing.

Place.  ``transport`` has one ``Session`` per server. Everything that works around a habit of the library is
here, with its reason.

Threads.  A session is used by many threads and changed by none after it is made.
"""

from __future__ import annotations

import http.cookiejar
import logging
import ssl
from pathlib import Path

import requests
import urllib3

from agorafs import __version__
from agorafs.client.sending import UploadAdapter
from agorafs.errors import ExitStatus, UsageError

logger = logging.getLogger(__name__)


class Session(requests.Session):
    """A session that leaves redirects alone and keeps no cookies.

    ``requests`` prepares the next hop even when it is not to follow it, and reads the whole body for
    that. A session cookie would go on authenticating after the key was revoked.
    """

    def __init__(self, connections: int, *, use_proxies: bool) -> None:
        """Keep up to *connections* open; *use_proxies* takes them from the environment."""
        super().__init__()
        self.trust_env = use_proxies
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self.headers.update(
            {"User-Agent": f"agorafs/{__version__}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, UploadAdapter(pool_maxsize=connections))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def limit_wait(response: requests.Response, seconds: float) -> None:
    """Set how long the next reads of the body may wait.

    The libraries have one timeout for the header and the body. The socket is taken from the file object,
    because a connection that is not kept alive has forgotten it. Where that looks different, the
    timeout of the request stays in force.
    """
    file = getattr(getattr(response.raw, "_fp", None), "fp", None)
    socket = getattr(getattr(file, "raw", None), "_sock", None)
    if socket is not None:
        socket.settimeout(seconds)


def checked_verify(verify: bool | Path) -> bool | str:
    """Return *verify* (see ``Transport``) as ``requests`` wants it, after a look at the certificates.

    ``requests`` itself would notice a bad file only at the first connection.
    """
    if isinstance(verify, bool):
        if not verify:
            logger.warning("certificates are not checked: anybody in between can read the key and the data")
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return verify
    try:
        if verify.is_dir():
            ssl.create_default_context(capath=str(verify))
        else:
            ssl.create_default_context(cafile=str(verify))
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"the certificate file {verify} can not be used: {error.strerror or 'no certificate in it'}",
            ExitStatus.CONFIGURATION,
        ) from error
    return str(verify)
