"""What a scripted server was asked last."""

from __future__ import annotations

import json
from typing import Any

from tests.support.http_server import ScriptedServer


def sent(server: ScriptedServer) -> tuple[str, str, Any]:
    """Return (method, path, body) of the last request; JSON bodies parsed, others as text."""
    request = server.seen[-1]
    is_json = request.headers.get("content-type") == "application/json"
    return request.method, request.target, json.loads(request.body) if is_json else request.body.decode()
