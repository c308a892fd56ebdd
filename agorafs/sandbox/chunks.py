"""Taking the chunks of an upload off the wire: straight into a file, hashed on the way.

Success is answered when the chunk is durable: bytes, name and row. A chunk whose optional SHA-256 does not fit is
refused with 400, one above ``chunk-max`` with 413, one for a completed package with 400.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web

from agorafs.sandbox.calls import ApiError
from agorafs.sandbox.imports import Imports

_PIECE_BYTES = 256 * 1024
_FIELD_BYTES = 64 * 1024
_HASH_FIELDS = ("flowChunkHash", "flowFileContentHash")


async def receive_chunk(
    request: web.Request, imports: Imports, package: int, max_bytes: int
) -> tuple[dict[str, Any], Path]:
    """Read one multipart chunk; return its checked fields and the synced file. Nothing is left on an error."""
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, "A chunk is sent as multipart/form-data.")
    path = await asyncio.to_thread(imports.new_chunk_path, package, f"chunk-{uuid.uuid4().hex}")
    form: dict[str, str] = {}
    digest: str | None = None
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise ApiError(400, "Nested multipart bodies are not understood.")
            if part.name == "file":
                digest = await _write(part, path, max_bytes)
            else:
                value = await part.read(decode=True)
                form[part.name or ""] = bytes(value[:_FIELD_BYTES]).decode(errors="replace")
        if digest is None:
            raise ApiError(400, {"file": ["No file was submitted."]})
        fields = _checked(form)
        for name in _HASH_FIELDS:
            if form.get(name) and form[name].lower() != digest:
                raise ApiError(400, {name: ["The hash does not fit the chunk."]})
    except ValueError as error:  # what aiohttp raises for a body that is no multipart
        path.unlink(missing_ok=True)
        raise ApiError(400, f"The multipart body cannot be read: {error}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return fields, path


async def _write(part: BodyPartReader, path: Path, max_bytes: int) -> str:
    """Write the part to *path*, durably; return its SHA-256."""
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        while piece := await part.read_chunk(_PIECE_BYTES):
            size += len(piece)
            if max_bytes and size > max_bytes:
                raise ApiError(413, "The chunk is too large.")
            await asyncio.to_thread(_append, file.fileno(), piece, digest)
        await asyncio.to_thread(os.fsync, file.fileno())
    return digest.hexdigest()


def _append(descriptor: int, piece: bytes, digest: Any) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
    digest.update(piece)


def _checked(form: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, key in (
        ("flowChunkNumber", "number"),
        ("flowTotalSize", "total_size"),
        ("flowTotalChunks", "total_chunks"),
    ):
        text = form.get(name, "")
        if not (text.isascii() and text.isdigit()):
            raise ApiError(400, {name: ["A valid integer is required."]})
        fields[key] = int(text)
    fields["identifier"] = form.get("flowIdentifier", "")
    fields["target"] = form.get("flowRelativePath") or form.get("flowFilename", "")
    for name, key in (("flowIdentifier", "identifier"), ("flowFilename", "target")):
        if not fields[key]:
            raise ApiError(400, {name: ["This field is required."]})
    if fields["number"] > max(fields["total_chunks"], 1):
        raise ApiError(400, {"flowChunkNumber": ["There are not that many chunks."]})
    return fields
