"""Datasets, datafiles and the listing for downloads."""

from __future__ import annotations

import re

from agorafs.sandbox import deletion, objects, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, ContentAnswer, NotFoundError, Route, Row
from agorafs.sandbox.endpoints.exams import DATASET_FIELDS
from agorafs.sandbox.lists import answer_list


def _one(call: Call, id_: int) -> Answer:
    return Answer(200, serialise.datasets_of_version(call, [call.dataset(id_)])[0])


def list_datasets(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM live_dataset WHERE project IN {call.visible} ORDER BY id")
    return answer_list(
        call, rows, lambda page: serialise.datasets_of_version(call, page), fields=DATASET_FIELDS
    )


def get_dataset(call: Call) -> Answer:
    return _one(call, call.id)


def list_datafiles(call: Call) -> Answer:
    call.dataset(call.id)
    rows = call.db.execute("SELECT * FROM datafile WHERE dataset = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, lambda page: serialise.datafiles(call, page))


def delete_dataset(call: Call) -> Answer:
    call.dataset(call.id)
    deletion.delete_object(call, "dataset", call.id)
    return NO_CONTENT


def _target_folder(call: Call) -> Row:
    folder = call.folder(call.number("folder_id"))
    if folder["project"] != call.number("project_id"):
        raise ApiError(400, "The folder does not belong to the project.")
    call.require_write(folder["project"])
    return folder


def copy_dataset(call: Call) -> Answer:
    """Copy a dataset into a folder: new ids, the same contents."""
    source, folder = call.dataset(call.id), _target_folder(call)
    now = call.store.now()
    copy = objects.create_dataset(
        call.db,
        now,
        folder["project"],
        source["name"],
        type_=source["type"],
        mime_type=source["mime_type"],
        folder=folder["id"],
    )
    for file in call.db.execute(
        "SELECT * FROM datafile WHERE dataset = ? ORDER BY id", (call.id,)
    ).fetchall():
        objects.create_datafile(
            call.db,
            now,
            copy,
            file["original_filename"],
            size=file["size"],
            sha1=file["sha1"],
            mime_type=file["mime_type"],
        )
    call.db.execute(
        "INSERT INTO parameter_set (content_type, object_id, name, read_only, parameters) "
        "SELECT content_type, ?, name, read_only, parameters FROM parameter_set "
        "WHERE content_type = 'dataset' AND object_id = ?",
        (copy, call.id),
    )
    return _one(call, copy)


def move_dataset(call: Call) -> Answer:
    """Move a dataset from its folder to another; a dataset of a study stays with the study."""
    source, folder = call.dataset(call.id), _target_folder(call)
    call.require_write(source["project"])
    if source["series"] is not None or source["exam"] is not None:
        raise ApiError(400, "A dataset of a study cannot be moved into a folder.")
    now = call.store.now()
    call.db.execute(
        "UPDATE folder_item SET folder = ?, modified_date = ? "
        "WHERE content_type = 'dataset' AND object_id = ? AND is_link = 0 AND trash IS NULL",
        (folder["id"], now, call.id),
    )
    if folder["project"] != source["project"]:
        # Links do not cross projects: those of the old project lose what they showed.
        call.db.execute(
            "DELETE FROM folder_item WHERE content_type = 'dataset' AND object_id = ? AND is_link = 1",
            (call.id,),
        )
    call.db.execute(
        "UPDATE dataset SET project = ?, modified_date = ? WHERE id = ?", (folder["project"], now, call.id)
    )
    return _one(call, call.id)


def get_image_info(call: Call) -> Answer:
    """Answer what is known without reading pixels; the vendor's fields are not documented."""
    row = call.dataset(call.id)
    count = call.db.execute("SELECT COUNT(*) FROM datafile WHERE dataset = ?", (call.id,)).fetchone()[0]
    return Answer(200, {"dataset": row["id"], "type": row["type"], "number_of_files": count})


def get_exam(call: Call) -> Answer:
    owner = call.dataset(call.id)["owner_exam"]
    if owner is None:
        raise NotFoundError
    return Answer(200, serialise.exam(call, call.exam(owner)))


def get_patient(call: Call) -> Answer:
    owner = call.dataset(call.id)["owner_exam"]
    patient = None if owner is None else call.exam(owner)["patient"]
    if patient is None:
        raise NotFoundError
    return Answer(200, serialise.patients(call, [call.patient(patient)])[0])


def get_datafile(call: Call) -> Answer:
    return Answer(200, serialise.datafiles(call, [call.datafile(call.id)])[0])


def download_datafile(call: Call) -> ContentAnswer:
    row = call.datafile(call.id)
    return ContentAnswer(row["sha1"], row["size"], row["mime_type"])


# -- downloadinfo ------------------------------------------------------------------------------------


def list_downloads(call: Call) -> Answer:
    """List every datafile below the given objects with the local path a download would give it.

    Layout: ``exam/series/``, ``exam/``, ``folder/…``; several files of one dataset get a directory of its name.
    Links inside folders are not followed.
    """
    if not call.switches.is_on("downloadinfo"):
        raise NotFoundError
    paths: dict[int, str] = {}  # dataset id -> directory
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
    return Answer(200, _downloads(call, paths))


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
    return re.sub(r'[/\\:*"<>|]', "_", name).strip() or "unnamed"


def _downloads(call: Call, paths: dict[int, str]) -> list[dict[str, object]]:
    chosen = call.value("filter") or {}
    types = chosen.get("dataset_types") or []
    ids = chosen.get("datafile_ids") or []
    try:
        pattern = re.compile(chosen.get("regex") or "")
    except re.error:
        raise ApiError(400, {"regex": ["Enter a valid regular expression."]}) from None
    found: list[dict[str, object]] = []
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


ROUTES = (
    Route("GET", "dataset", list_datasets),
    Route("GET", "dataset/{id}", get_dataset),
    Route("DELETE", "dataset/{id}", delete_dataset),
    Route("GET", "dataset/{id}/datafiles", list_datafiles),
    Route("POST", "dataset/{id}/copy_to/{project_id}/folder/{folder_id}", copy_dataset),
    Route("POST", "dataset/{id}/move_to/{project_id}/folder/{folder_id}", move_dataset),
    Route("GET", "dataset/{id}/image_info", get_image_info),
    Route("GET", "dataset/{id}/exam", get_exam),
    Route("GET", "dataset/{id}/patient", get_patient),
    Route("GET", "datafile/{id}", get_datafile),
    Route("GET", "datafile/{id}/download", download_datafile),
    Route("POST", "downloadinfo", list_downloads),
)
