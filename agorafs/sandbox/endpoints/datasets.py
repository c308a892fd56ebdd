"""Datasets and datafiles."""

from __future__ import annotations

from agorafs.sandbox import copying, deletion, serialise
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
    copy = copying.copy_dataset(call.db, call.store.now(), source, folder["project"], folder=folder["id"])
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
)
