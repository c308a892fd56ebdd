"""One method per endpoint of tags, ratings, parameter sets and locks: what people say about objects.

Place.  ``Client.annotations``. Nothing is remembered; whether something may be said is the business of those who call.

Words.  The archive calls a series "series" in paths and "serie" in bodies.

Evidence.  As in ``api``; "Matlab" is the vendor's toolbox.

Repetition.  A lost answer leaves ``create_tag``, ``tag``, ``add_parameter_set`` and a first ``rate`` undecided
(``RemoteUnavailable`` or ``RemoteTimeout``): they would be done twice. Everything else is repeated.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no such record, ``NotSupported``
for objects that the archive takes no such thing of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from agorafs.client.annotations import ParameterSet, Rating, Tag, TagInstance
from agorafs.client.asking import listed, listed_known, parsed
from agorafs.client.records import Dataset, Exam, Kind, Patient, RemoteRef, Series
from agorafs.client.transport import Transport
from agorafs.errors import NotFound, NotSupported, ProtocolError

# The word in v2 paths, and the server's own name for the kind, for what can be tagged, rated and described.
_DESCRIBED = {
    Kind.FOLDER: ("folder", "folder"),
    Kind.EXAM: ("exam", "exam"),
    Kind.SERIES: ("series", "serie"),
    Kind.DATASET: ("dataset", "dataset"),
    Kind.PATIENT: ("patient", "patient"),
}

_OF_PROJECT = {"visibility": 2, "scope": 1}
_OF_USER = {"visibility": 1, "scope": 2}

Tagged = Exam | Series | Dataset | Patient

_TAGGED_PARSERS: Mapping[Kind, Callable[[object], Tagged]] = {
    Kind.EXAM: Exam.from_json,
    Kind.SERIES: Series.from_json,
    Kind.DATASET: Dataset.from_json,
    Kind.PATIENT: Patient.from_json,
}

T = TypeVar("T")


class Annotations:
    """Tags, ratings, parameters and locks as one user sees and sets them."""

    def __init__(self, transport: Transport, page_size: int) -> None:
        self._transport = transport
        self._page_size = page_size

    # -- tags ----------------------------------------------------------------------------------------

    def tags(self) -> list[Tag]:
        """GET v2/tag-definition/ (Python): the user's own tags and those of the projects."""
        return self._list("/api/v2/tag-definition/", Tag.from_json)

    def project_tags(self, project_id: int) -> list[Tag]:
        """GET v2/project/{id}/tag-definition/ (Python): the tags defined for the project."""
        return self._list(f"/api/v2/project/{project_id}/tag-definition/", Tag.from_json)

    def tags_of(self, ref: RemoteRef) -> list[Tag]:
        """GET v2/{kind}/{id}/tags/ (Python): the tags that the object has."""
        return self._list(_path(ref, "tags"), Tag.from_json)

    def create_tag(self, label: str, *, project: int | None, user: int | None = None) -> Tag:
        """POST v2/tag-definition/ (Python): a tag of *project*, or of one's own where that is None.

        The vendor's connector names *user* for an own tag, but fails before it sends that.
        """
        path = "/api/v2/tag-definition/"
        body = {"label": label, "user": user, "project": project, "group": None, "color": None}
        body |= _OF_USER if project is None else _OF_PROJECT
        return self._parsed(path, Tag.from_json, self._transport.post_json(path, body))

    def delete_tag(self, tag_id: int) -> None:
        """DELETE v2/tag-definition/{id}/ (Python): the objects lose it, too (guess)."""
        self._transport.delete(f"/api/v2/tag-definition/{tag_id}/")

    def tag(self, ref: RemoteRef, tag_id: int) -> TagInstance | None:
        """POST v2/tag-instance/ (Python), as a form; None where the answer does not tell the instance.

        Python reads a list, Matlab an object; a page is a guess.
        """
        form: dict[str, str | int] = {
            "tag_definition": tag_id,
            "tagged_object_content_type": _described(ref)[1],
            "tagged_object_id": ref.id,
        }
        answer = self._transport.post_form("/api/v2/tag-instance/", form)
        return _made_instance(answer, ref, tag_id)

    def tag_instances(self, project_id: int | None) -> list[TagInstance]:
        """GET v2/project/{id}/tag-instance/, or v2/tag-instance/ for None (Python): which objects have which tags."""
        of_project = "" if project_id is None else f"project/{project_id}/"
        path = f"/api/v2/{of_project}tag-instance/"
        return listed_known(self._transport, path, TagInstance.from_json, self._page_size)

    def remove_tag_instance(self, instance_id: int) -> None:
        """DELETE v2/tag-instance/{id}/ (Python): the object loses the tag."""
        self._transport.delete(f"/api/v2/tag-instance/{instance_id}/")

    def tagged(self, project_id: int, kind: Kind, tag_id: int) -> list[Tagged]:
        """GET v2/project/{id}/{kind}/for_tag/{tag}/ (Matlab): exams, series, datasets or patients with the tag."""
        if kind not in _TAGGED_PARSERS:
            raise NotSupported(f"the archive does not list each {kind.value} that has a tag")
        path = f"/api/v2/project/{project_id}/{kind.value}/for_tag/{tag_id}/"
        return self._list(path, _TAGGED_PARSERS[kind])

    # -- ratings -------------------------------------------------------------------------------------

    def rating(self, ref: RemoteRef) -> Rating | None:
        """GET v2/{kind}/{id}/rating/ (Python): a list of which only the first counts."""
        ratings = self._list(_path(ref, "rating"), Rating.from_json)
        return ratings[0] if ratings else None

    def rate(self, ref: RemoteRef, value: int) -> None:
        """Set the rating to 1 to 5, or take it away with 0: GET, then POST, PUT or DELETE v2/rating/ (Python).

        What somebody else has taken away between the two is looked at once more.
        """
        rating = self.rating(ref)
        try:
            self._rate(ref, rating, value)
        except NotFound:
            if rating is None:
                raise
            self._rate(ref, self.rating(ref), value)

    def _rate(self, ref: RemoteRef, rating: Rating | None, value: int) -> None:
        """Do it, where the rating of *ref* is *rating* now."""
        rated: dict[str, str | int] = {
            "rated_object_content_type": _described(ref)[1],
            "rated_object_id": ref.id,
        }
        if value == 0:
            if rating is not None:
                self._transport.delete(f"/api/v2/rating/{rating.id}/")
        elif rating is None:
            self._transport.post_form("/api/v2/rating/", {"value": value, **rated})
        else:
            body = {"id": rating.id, "value": value, **rated}
            self._transport.put_json(f"/api/v2/rating/{rating.id}/", body, may_repeat=True)

    # -- parameters ----------------------------------------------------------------------------------

    def parameter_sets(self, ref: RemoteRef) -> list[ParameterSet]:
        """GET v2/{kind}/{id}/parametersets/ and, as that may give heads only, each v2/parameterset/{id}/ (Python)."""
        heads = self._list(_path(ref, "parametersets"), ParameterSet.from_json)
        return [self._parameter_set(head.id) for head in heads]

    def _parameter_set(self, set_id: int) -> ParameterSet:
        path = f"/api/v2/parameterset/{set_id}/"
        return self._parsed(path, ParameterSet.from_json, self._transport.get_json(path, {"flat": "True"}))

    def add_parameter_set(
        self, ref: RemoteRef, name: str, parameters: Sequence[Mapping[str, Any]]
    ) -> ParameterSet:
        """POST v2/{kind}/{id}/parametersets/ (Python): a writable set; the answer is its head."""
        path = _path(ref, "parametersets")
        answer = self._transport.post_json(path, _parameter_body(name, parameters))
        return self._parsed(path, ParameterSet.from_json, answer)

    def replace_parameters(self, set_id: int, name: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """PATCH v2/parameterset/{id}/ (Python): *parameters* are all that the set has afterwards."""
        path = f"/api/v2/parameterset/{set_id}/"
        self._transport.patch_json(path, _parameter_body(name, parameters), may_repeat=True)

    def delete_parameter_set(self, set_id: int) -> None:
        """DELETE v2/parameterset/{id}/ (Python)."""
        self._transport.delete(f"/api/v2/parameterset/{set_id}/")

    # -- locks ---------------------------------------------------------------------------------------

    def set_locked(self, exam_ids: Iterable[int], locked: bool) -> None:
        """POST v2/exam/lock_ids/ or v2/exam/unlock_ids/ (Python), as a form."""
        path = f"/api/v2/exam/{'lock' if locked else 'unlock'}_ids/"
        self._transport.post_form(path, {"ids": list(exam_ids)}, may_repeat=True)

    # -- how -----------------------------------------------------------------------------------------

    def _list(self, path: str, parse: Callable[[object], T]) -> list[T]:
        return listed(self._transport, path, parse, self._page_size)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self._transport, path, parse, data)


def _described(ref: RemoteRef) -> tuple[str, str]:
    if ref.kind not in _DESCRIBED:
        raise NotSupported(f"a {ref.kind.value} has no tags, no rating and no parameters")
    return _DESCRIBED[ref.kind]


def _path(ref: RemoteRef, tail: str) -> str:
    return f"/api/v2/{_described(ref)[0]}/{ref.id}/{tail}/"


def _parameter_body(name: str, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"name": name, "parameters": [dict(parameter) for parameter in parameters]}


def _made_instance(answer: object, ref: RemoteRef, tag_id: int) -> TagInstance | None:
    """Find the instance in an answer of any shape; the object is tagged even if that tells nothing."""
    if isinstance(answer, dict):
        answer = answer.get("results", [answer])
    for item in answer if isinstance(answer, list) else ():
        with suppress(ProtocolError):
            instance = TagInstance.from_json(item)
            if instance is not None and (instance.ref, instance.tag) == (ref, tag_id):
                return instance
    return None
