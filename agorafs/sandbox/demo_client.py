"""What seeding needs of a client: folders, links, and uploads through the real import.

Why.  The demo should come in the way a user's data come in, so that it shows what the import makes of it. Only
what the API can not create is written to the store directly (``demo_hostile``).

Every step looks for what is there before it creates anything, so a seeding that was interrupted can be repeated.

Failure.  ``SeedingError`` with the answer of the server; nothing is retried, it runs in this process.
"""

from __future__ import annotations

import asyncio
import io
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

# Smaller than the large file of the demo, so that joining chunks is part of each seeding.
CHUNK_BYTES = 4 * 1024 * 1024
_EVERYTHING = 10**10
_POLL_INTERVAL_S = 0.05
_MAX_POLLS = 6000
_FINISHED, _FAILED = 5, -1

Content = Path | bytes | str


class SeedingError(Exception):
    """The server refused a step of the seeding, or an import failed; the text says which and why."""


class DemoClient:
    """A user of the API. ``session`` belongs to the caller."""

    def __init__(self, session: aiohttp.ClientSession, url: str, api_key: str) -> None:
        self._session = session
        self._api = f"{url.rstrip('/')}/api/"
        self._headers = {"Authorization": f"X-Agora-Api-Key {api_key}"}

    async def call(self, method: str, path: str, **body: Any) -> Any:
        """Send a request and return the parsed answer, ``None`` when it has no body."""
        async with self._session.request(method, self._api + path, headers=self._headers, **body) as answer:
            text = await answer.text()
            if answer.status not in (200, 201, 204):
                raise SeedingError(f"{method} {path}: {answer.status} {text}")
            return await answer.json() if text else None

    async def entries(self, path: str) -> list[dict[str, Any]]:
        """Return a whole list, whichever shape it has."""
        answer = await self.call("GET", f"{path}?limit={_EVERYTHING}")
        found: list[dict[str, Any]] = answer["results"] if isinstance(answer, dict) else answer
        return found

    async def project(self, name: str, description: str) -> dict[str, Any]:
        """Return the project of that name, created when there is none."""
        for project in await self.entries("v2/project/"):
            if project["name"] == name and not project["is_myagora"]:
                return project
        created: dict[str, Any] = await self.call(
            "POST", "v2/project/", json={"name": name, "description": description}
        )
        return created

    async def my_agora(self) -> dict[str, Any]:
        """Return the user's own project."""
        project: dict[str, Any] = await self.call("GET", "v1/project/myagora/")
        return project

    async def folder(self, parent: int, *names: str) -> int:
        """Return the folder at the end of a chain of names, created where it is missing."""
        for name in names:
            for item in await self.entries(f"v1/folder/{parent}/items/"):
                is_own_folder = item["content_type"] == "folder" and not item["is_link"]
                if is_own_folder and item["content_object"]["name"] == name:
                    parent = int(item["object_id"])
                    break
            else:
                item = await self.call("POST", f"v1/folder/{parent}/new/", json={"name": name})
                parent = int(item["object_id"])
        return parent

    async def link(self, kind: str, object_id: int, folder: int) -> None:
        """Show an object in another folder; *kind* is ``folder``, ``exam``, ``series`` or ``dataset``."""
        await self.call("POST", f"v2/{kind}/{object_id}/link_to/{folder}/")

    async def upload(
        self,
        files: Mapping[str, Content],
        *,
        folder: int,
        import_json: str | None = None,
        relations: Mapping[str, list[str]] | None = None,
    ) -> dict[str, list[int]]:
        """Import files, given by target path, and wait for it.

        Args:
            files: Target path to a local file, bytes or text.
            folder: Where loose files go.
            import_json: The content of an import JSON.
            relations: Main target to related targets.

        Returns:
            The ids of the objects the import touched, by content type.
        """
        package = (await self.call("POST", "v1/import/", json={}))["id"]
        request: dict[str, Any] = {"folder": folder}
        contents = {target: _bytes_of(content) for target, content in files.items()}
        if import_json is not None:
            request["import_file"] = f"import-{uuid.uuid4()}.json"
            contents[request["import_file"]] = import_json.encode()
        if relations is not None:
            request["relations"] = relations
        small = {target: content for target, content in contents.items() if len(content) <= CHUNK_BYTES}
        if small:
            await self._send(package, f"upload_{uuid.uuid4()}.agora_upload", _zipped(small))
        for target, content in contents.items():
            if target not in small:
                await self._send(package, target, content)
        await self.call("POST", f"v1/import/{package}/complete/", json=request)
        return await self._wait(package, expected=len(files))

    async def _send(self, package: int, target: str, content: bytes) -> None:
        count = max(1, -(-len(content) // CHUNK_BYTES))
        identifier = str(uuid.uuid4())
        for number in range(count):
            chunk = content[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            form = aiohttp.FormData()
            for name, value in (
                ("description", ""),
                ("flowChunkNumber", number + 1),
                ("flowChunkSize", CHUNK_BYTES),
                ("flowCurrentChunkSize", len(chunk)),
                ("flowTotalSize", len(content)),
                ("flowIdentifier", identifier),
                ("flowFilename", target),
                ("flowRelativePath", target),
                ("flowTotalChunks", count),
            ):
                form.add_field(name, str(value))
            # As a stream: aiohttp warns of large bytes, which it would write in one go.
            form.add_field(
                "file", io.BytesIO(chunk), filename="chunk", content_type="application/octet-stream"
            )
            await self.call("POST", f"v1/import/{package}/upload/", data=form)

    async def _wait(self, package: int, expected: int) -> dict[str, list[int]]:
        for _ in range(_MAX_POLLS):
            progress = await self.call("GET", f"v1/import/{package}/progress/")
            if progress["state"] in (_FINISHED, _FAILED):
                break
            await asyncio.sleep(_POLL_INTERVAL_S)
        else:
            raise SeedingError(f"import {package} did not end")
        result = await self.call("GET", f"v1/import/{package}/result/")
        if progress["state"] == _FAILED or len(result["datafiles"]) != expected:
            error = (await self.call("GET", f"v1/import/{package}/"))["error"]
            raise SeedingError(
                f"import {package} stored {len(result['datafiles'])} of {expected} files: {error}"
            )
        touched: dict[str, list[int]] = {}
        for entry in await self.call("GET", f"v1/import/{package}/get_objects/"):
            touched.setdefault(entry["content_type"], []).append(entry["object_id"])
        return touched


def _bytes_of(content: Content) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else content


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return an upload package: a zip of files by target path, not compressed, as the vendor's clients send it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as package:
        for target, content in contents.items():
            package.writestr(zipfile.ZipInfo(target), content)
    return buffer.getvalue()
