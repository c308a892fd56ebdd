"""Patients, visible to whoever sees one of their exams."""

from __future__ import annotations

from agorafs.sandbox import deletion, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, Call, Route
from agorafs.sandbox.endpoints.exams import EXAM_FIELDS
from agorafs.sandbox.lists import answer_list

PATIENT_FIELDS = {
    "id": "number",
    "name": "text",
    "patient_id": "text",
    "sex": "text",
    "weight": "number",
    "birth_date": "time",
    "created_date": "time",
    "modified_date": "time",
}


def list_patients(call: Call) -> Answer:
    rows = call.db.execute(
        "SELECT * FROM patient WHERE trash IS NULL AND id IN "
        f"(SELECT patient FROM live_exam WHERE project IN {call.visible}) ORDER BY id"
    )
    return answer_list(call, rows, lambda page: serialise.patients(call, page), fields=PATIENT_FIELDS)


def get_patient(call: Call) -> Answer:
    return Answer(200, serialise.patients(call, [call.patient(call.id)])[0])


def list_exams(call: Call) -> Answer:
    call.patient(call.id)
    rows = call.db.execute(
        f"SELECT * FROM live_exam WHERE patient = ? AND project IN {call.visible} ORDER BY id", (call.id,)
    )
    return answer_list(call, rows, lambda page: serialise.exams(call, page), fields=EXAM_FIELDS)


def delete_patient(call: Call) -> Answer:
    """Delete a patient with all exams; refused when one of them is not the user's to delete."""
    call.patient(call.id)
    deletion.delete_object(call, "patient", call.id)
    return NO_CONTENT


ROUTES = (
    Route("GET", "patient", list_patients),
    Route("GET", "patient/{id}", get_patient),
    Route("GET", "patient/{id}/exams", list_exams),
    Route("DELETE", "patient/{id}", delete_patient),
)
