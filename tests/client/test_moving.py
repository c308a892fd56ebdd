"""Copies and moves of exams and series begin at the server and answer with what can be looked at."""

from __future__ import annotations

import pytest

from agorafs.client.task_records import TimelineState
from agorafs.errors import ProtocolError, RemoteUnavailable
from tests.client.sent import sent
from tests.support.http_server import answer_json, vanish

ALL = [
    (lambda c: c.copy_exam(5, 2, None), "/api/v2/exam/5/copy_to/2/"),
    (lambda c: c.copy_exam(5, 2, 4), "/api/v2/exam/5/copy_to/2/folder/4/"),
    (lambda c: c.move_exam(5, 2, None), "/api/v2/exam/5/move_to/2/"),
    (lambda c: c.move_exam(5, 2, 4), "/api/v2/exam/5/move_to/2/folder/4/"),
    (lambda c: c.copy_series(6, 2, 4), "/api/v2/series/6/copy_to/2/folder/4/"),
]


@pytest.mark.parametrize(("begin", "path"), ALL)
def test_the_answer_is_a_timeline_item(server, client, begin, path):
    server.on(path, answer_json({"id": 7, "data": {"state": 6}}))
    item = begin(client.moving)
    assert sent(server) == ("POST", path, {})
    assert (item.id, item.state) == (7, TimelineState.QUEUED)


@pytest.mark.parametrize(("begin", "path"), ALL)
def test_what_may_have_begun_is_not_begun_again(server, client, begin, path):
    server.on(path, vanish())
    with pytest.raises(RemoteUnavailable):
        begin(client.moving)
    assert len(server.seen) == 1


def test_an_answer_that_is_no_timeline_item_is_a_protocol_error(server, client):
    server.on("/api/v2/exam/5/copy_to/2/", answer_json({"detail": "ok"}))
    with pytest.raises(ProtocolError, match="copy_to"):
        client.moving.copy_exam(5, 2, None)
