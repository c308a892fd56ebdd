"""Bulk downloads: the listing of what is below some objects, and zip files of it.

A zip is prepared when it is first asked for: the answer that creates a download file says ``ready: false``, and the
first poll after it builds the zip and says ``true``. What it holds was settled when it was created; a zip that is gone
(another data directory, a restart) is built again. When one of its contents was deleted for good meanwhile, the
poll tells the error instead.

Decisions, where the real server's behaviour is unknown:

* Names in the zip are those of the listing, made harmless; a second file of one name gets a number. With ``flat``
  there are no directories.
* Each user keeps the newest ``KEPT`` download files; older ones are gone (404).
* The vendor's exchange format AEX is not public: ``aex`` is refused with 501.

Threads.  Two polls may build the same zip at once: each writes its own file, and both are equal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from agorafs.sandbox import objects, serialise
from agorafs.sandbox.calls import Answer, ApiError, Call, ContentAnswer, Json, NotFoundError, Route, Row
from agorafs.sandbox.contents import sha1_of

KEPT = 20

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same zip each time it is built
_DIRECTORY = "downloads"
_BUFFER_BYTES = 1 << 20


# -- the listing -------------------------------------------------------------------------------------


def list_downloads(call: Call) -> Answer:
    """List every datafile below the given objects with the local path a download would give it.

    Layout: ``exam/series/``, ``exam/``, ``folder/…``; several files of one dataset get a directory of its name.
    Links inside folders are not followed.
    """
    if not call.switches.is_on("downloadinfo"):
        raise NotFoundError
    return Answer(200, _downloads(call, _chosen_datasets(call)))


def _chosen_datasets(call: Call) -> dict[int, str]:
    """Return the datasets below the objects that the body names, with the directory of each."""
    paths: dict[int, str] = {}
    for id_ in call.integers("folder_ids"):
        _add_folder(call, paths, call.folder(id_), "")
    for id_ in call.integers("patient_ids"):
        call.patient(id_)
        for exam in call.db.execute(
            f"SELECT * FROM live_exam WHERE patient = ? AND project IN {call.visible} ORDER BY id", (id_,)
        ).fetchall():
            _add_exam(call, paths, exam, "")
    for id_ in call.integers("exam_ids"):
        _add_exam(call, paths, call.exam(id_), "")
    for id_ in call.integers("series_ids"):
        _add_series(call, paths, call.series(id_), "")
    for id_ in call.integers("dataset_ids"):
        paths.setdefault(call.dataset(id_)["id"], "")
    return paths


def _add_series(call: Call, paths: dict[int, str], series: Row, parent: str) -> None:
    for row in call.db.execute("SELECT id FROM live_dataset WHERE series = ? ORDER BY id", (series["id"],)):
        paths.setdefault(row["id"], f"{parent}{_part(series['name'])}/")


def _add_exam(call: Call, paths: dict[int, str], exam: Row, parent: str) -> None:
    here = f"{parent}{_part(exam['name'])}/"
    for row in call.db.execute(
        "SELECT * FROM live_series WHERE exam = ? ORDER BY id", (exam["id"],)
    ).fetchall():
        _add_series(call, paths, row, here)
    for row in call.db.execute("SELECT id FROM live_dataset WHERE exam = ? ORDER BY id", (exam["id"],)):
        paths.setdefault(row["id"], here)


def _add_folder(call: Call, paths: dict[int, str], folder: Row, parent: str) -> None:
    here = f"{parent}{_part(folder['name'])}/"
    for item in call.db.execute(
        "SELECT * FROM live_item WHERE folder = ? AND is_link = 0 ORDER BY id", (folder["id"],)
    ).fetchall():
        if item["content_type"] == "folder":
            _add_folder(call, paths, call.folder(item["object_id"]), here)
        elif item["content_type"] == "dataset":
            paths.setdefault(item["object_id"], here)


def _part(name: str) -> str:
    """Return a name as one path element."""
    return re.sub(r'[/\\:*"<>|\0]', "_", name).strip() or "unnamed"


def _downloads(call: Call, paths: dict[int, str]) -> list[dict[str, Json]]:
    chosen = call.value("filter") or {}
    if not isinstance(chosen, dict):
        raise ApiError(400, {"filter": ["Expected an object."]})
    types = chosen.get("dataset_types") or []
    ids = chosen.get("datafile_ids") or []
    try:
        pattern = re.compile(chosen.get("regex") or "")
    except re.error:
        raise ApiError(400, {"regex": ["Enter a valid regular expression."]}) from None
    found: list[dict[str, Json]] = []
    rows = call.db.execute(
        "SELECT f.*, d.name AS dataset_name, d.type AS dataset_type, "
        "(SELECT COUNT(*) FROM datafile o WHERE o.dataset = d.id) AS siblings "
        "FROM datafile f JOIN dataset d ON d.id = f.dataset "
        "WHERE d.id IN (SELECT value FROM json_each(?)) ORDER BY f.id",
        (serialise.id_list(paths),),
    )
    for row in rows:
        directory, slash, filename = row["original_filename"].rpartition("/")
        if (types and row["dataset_type"] not in types) or (ids and row["id"] not in ids):
            continue
        if not pattern.search(filename):
            continue
        path = paths[row["dataset"]] + (f"{_part(row['dataset_name'])}/" if row["siblings"] > 1 else "")
        found.append(
            {
                "id": row["id"],
                "rel_path": (path + directory + slash).rstrip("/"),
                "filename": filename,
                "size": row["size"],
                "sha1": row["sha1"],
            }
        )
    return found


# -- zip files ---------------------------------------------------------------------------------------


def create_download_file(call: Call) -> Answer:
    return _create(call, None)


def create_download_file_of_project(call: Call) -> Answer:
    return _create(call, call.project(call.id))


def _create(call: Call, project: Row | None) -> Answer:
    if call.value("aex"):
        raise ApiError(501, "This server does not export AEX.")
    paths = _chosen_datasets(call)
    if project is not None:
        others = call.db.execute(
            "SELECT 1 FROM dataset WHERE project <> ? AND id IN (SELECT value FROM json_each(?))",
            (project["id"], serialise.id_list(paths)),
        ).fetchone()
        if others is not None:
            raise ApiError(400, "Objects of another project are among those to download.")
    is_flat = bool(call.value("flat"))
    files = harmless_paths(
        ("" if is_flat else entry["rel_path"], entry["filename"], entry["sha1"])
        for entry in _downloads(call, paths)
    )
    id_ = objects.insert(
        call.db,
        "download_file",
        {
            "user": call.me.id,
            "name": "download.zip" if project is None else f"{_part(project['name'])}.zip",
            "files": json.dumps(files),
            "is_compressed": int(bool(call.value("compression"))),
            "created_date": call.store.now(),
        },
    )
    _drop_old(call)
    return Answer(201, _body(call, _download_file(call, id_)))


def harmless_paths(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Return (path in the zip, SHA-1) for (directory, file name, SHA-1).

    No path is there twice, not even in other case; none is that of a directory too, and none climbs out.
    """
    wanted = []
    taken: set[str] = set()
    for directory, filename, sha1 in entries:
        parts = [_harmless(part) for part in directory.split("/") if part not in ("", ".")]
        path = PurePosixPath(*parts, _harmless(filename))
        taken.update(str(parent).casefold() for parent in path.parents)
        wanted.append((path, sha1))
    files = []
    for path, sha1 in wanted:
        candidate, number = path, 2
        while str(candidate).casefold() in taken:
            candidate = path.with_name(f"{path.stem} ({number}){path.suffix}")
            number += 1
        taken.add(str(candidate).casefold())
        files.append((str(candidate), sha1))
    return files


def _harmless(name: str) -> str:
    part = _part(name)
    return "_" if part in (".", "..") else part


def _drop_old(call: Call) -> None:
    """Forget all but the user's newest download files."""
    rows = call.db.execute(
        "SELECT id FROM download_file WHERE user = ? ORDER BY id DESC LIMIT -1 OFFSET ?", (call.me.id, KEPT)
    ).fetchall()
    for row in rows:
        call.db.execute("DELETE FROM download_file WHERE id = ?", (row["id"],))
        path = _path(call, row["id"])
        call.store.after_commit(lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc]


def _download_file(call: Call, id_: int) -> Row:
    row: Row | None = call.db.execute(
        "SELECT * FROM download_file WHERE id = ? AND user = ?", (id_, call.me.id)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return row


def _path(call: Call, id_: int) -> Path:
    return call.store.directory / _DIRECTORY / f"{id_}.zip"


def _body(call: Call, row: Row, error: str | None = None) -> Json:
    path = _path(call, row["id"])
    size = path.stat().st_size if path.exists() else None
    return {
        "id": row["id"],
        "ready": size is not None,
        "total_size": size,
        "error": error,
        "download_name": row["name"],
        "created_date": row["created_date"],
    }


def get_download_file(call: Call) -> Answer:
    row = _download_file(call, call.id)
    return Answer(200, _body(call, row, _build(call, row)))


def _build(call: Call, row: Row) -> str | None:
    """Make the zip unless it is there; return what went wrong."""
    target = _path(call, row["id"])
    if target.exists():
        return None
    target.parent.mkdir(exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    compression = zipfile.ZIP_DEFLATED if row["is_compressed"] else zipfile.ZIP_STORED
    try:
        with zipfile.ZipFile(part, "w", compression) as archive:
            for name, sha1 in json.loads(row["files"]):
                _add_content(archive, name, call.store.contents.path(sha1), compression)
        Path(part).replace(target)
    except FileNotFoundError:
        return "A file was deleted while the download was prepared."
    finally:
        Path(part).unlink(missing_ok=True)
    return None


def _add_content(archive: zipfile.ZipFile, name: str, content: Path, compression: int) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = compression
    info.file_size = content.stat().st_size  # says whether the entry needs the large form
    with content.open("rb") as source, archive.open(info, "w") as entry:
        shutil.copyfileobj(source, entry, _BUFFER_BYTES)


def download(call: Call) -> ContentAnswer:
    row = _download_file(call, call.id)
    path = _path(call, row["id"])
    if not path.exists():
        raise ApiError(400, "The download is not ready.")
    return ContentAnswer(sha1_of(path), path.stat().st_size, "application/zip", path)


ROUTES = (
    Route("POST", "downloadinfo", list_downloads),
    Route("POST", "downloadfile", create_download_file),
    Route("POST", "project/{id}/downloadfile", create_download_file_of_project),
    Route("GET", "downloadfile/{id}", get_download_file),
    Route("GET", "downloadfile/{id}/download", download),
)
