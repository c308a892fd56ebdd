"""A list is complete, or an exception."""

from __future__ import annotations

import pytest

from agorafs.client.paging import fetch_list
from agorafs.errors import NotFound, ProtocolError
from tests.support.http_server import answer_json

PATH = "/api/v1/exam/"


def elements(*ids):
    return [{"id": number} for number in ids]


def page(ids, count=None, link=None):
    return answer_json({"count": count, "next": link, "previous": None, "results": elements(*ids)})


def next_link(offset, host="http://backend:8000"):
    return f"{host}{PATH}?limit=2&offset={offset}"


def test_a_page_object_with_everything_is_one_request(server, transport):
    server.on(PATH, page([1, 2], count=2))
    assert fetch_list(transport, PATH) == elements(1, 2)
    assert server.targets() == [f"{PATH}?limit=20000"]


def test_a_bare_list_is_accepted(server, transport):
    server.on(PATH, answer_json(elements(1, 2)))
    assert fetch_list(transport, PATH) == elements(1, 2)


def test_a_single_object_is_a_list_of_one(server, transport):
    server.on(PATH, answer_json({"id": 1}))
    assert fetch_list(transport, PATH) == elements(1)


@pytest.mark.parametrize("empty", [[], {"count": 0, "next": None, "previous": None, "results": []}])
def test_an_empty_list_is_empty(server, transport, empty):
    server.on(PATH, answer_json(empty))
    assert fetch_list(transport, PATH) == []


def test_further_pages_are_followed_on_our_own_server(server, transport):
    """Behind a proxy the links name a host that only the server knows."""
    server.on(PATH, page([1, 2], 5, next_link(2)), page([3, 4], 5, next_link(4)), page([5], 5))
    assert fetch_list(transport, PATH, page_size=2) == elements(1, 2, 3, 4, 5)
    assert server.targets() == [f"{PATH}?limit=2", f"{PATH}?limit=2&offset=2", f"{PATH}?limit=2&offset=4"]


def test_links_may_be_relative(server, transport):
    server.on(PATH, page([1], 2, "?page=2"), page([2], 2))
    assert fetch_list(transport, PATH) == elements(1, 2)


def test_a_prefix_in_a_link_is_not_doubled(server, make_transport):
    server.on("/agora" + PATH, page([1], 2, f"https://agora.example.org/agora{PATH}?offset=1"), page([2], 2))
    assert fetch_list(make_transport(server.url + "/agora"), PATH) == elements(1, 2)


def test_further_query_parameters_are_sent(server, transport):
    server.on(PATH, page([1], 1))
    fetch_list(transport, PATH, params={"project": 3})
    assert server.targets() == [f"{PATH}?project=3&limit=20000"]


def test_a_server_with_a_smaller_page_than_asked_for_is_followed(server, transport):
    server.on(PATH, page([1, 2], 3, next_link(2)), page([3], 3))
    assert fetch_list(transport, PATH, page_size=10_000) == elements(1, 2, 3)


@pytest.mark.parametrize("count", [3, 10_000])
def test_a_list_shorter_than_its_count_is_an_error(server, transport, count):
    server.on(PATH, page([1, 2], count))
    with pytest.raises(ProtocolError, match=f"incomplete.*2 of {count}"):
        fetch_list(transport, PATH)


def test_a_link_that_leads_in_a_circle_is_an_error(server, transport):
    server.on(PATH, page([1], 9, next_link(2)), page([2], 9, next_link(2)))
    with pytest.raises(ProtocolError, match="does not end"):
        fetch_list(transport, PATH)
    assert len(server.seen) == 2


def test_empty_pages_without_end_are_an_error(server, transport):
    server.on(PATH, page([1], 9, next_link(1)), page([], 9, next_link(2)), page([], 9, next_link(3)))
    with pytest.raises(ProtocolError, match="does not end"):
        fetch_list(transport, PATH)


@pytest.mark.parametrize("answer", [5, "text", None, True, {"results": None}, {"results": {}}])
def test_what_is_no_list_is_an_error(server, transport, answer):
    server.on(PATH, answer_json(answer))
    with pytest.raises(ProtocolError, match="expected"):
        fetch_list(transport, PATH)


@pytest.mark.parametrize("link", [5, ["x"], {"a": 1}])
def test_a_link_that_is_no_text_is_an_error(server, transport, link):
    server.on(PATH, page([1], 2, link))
    with pytest.raises(ProtocolError, match="link"):
        fetch_list(transport, PATH)


def test_a_second_page_that_is_no_page_is_an_error(server, transport):
    server.on(PATH, page([1], 2, next_link(1)), answer_json([2]))
    with pytest.raises(ProtocolError, match="page was expected"):
        fetch_list(transport, PATH)


def test_a_second_page_that_is_missing_is_an_error_and_not_a_short_list(server, transport):
    server.on(PATH, page([1], 2, next_link(1)), answer_json({}, 404))
    with pytest.raises(NotFound):
        fetch_list(transport, PATH)


def test_a_bare_list_as_long_as_the_limit_is_asked_for_again_with_more(server, transport):
    """It may have been cut there, and a bare list does not say."""

    def reply(connection, request):
        limit = int(request.target.partition("limit=")[2])
        answer_json(elements(*range(1, 26))[:limit])(connection, request)

    server.on(PATH, reply)
    assert fetch_list(transport, PATH, page_size=2) == elements(*range(1, 26))
    assert server.targets() == [f"{PATH}?limit=2", f"{PATH}?limit=20", f"{PATH}?limit=200"]


def test_a_bare_list_longer_than_the_limit_is_complete(server, transport):
    server.on(PATH, answer_json(elements(1, 2, 3)))
    assert fetch_list(transport, PATH, page_size=2) == elements(1, 2, 3)
    assert len(server.seen) == 1


def test_a_list_whose_count_changes_between_pages_is_fetched_anew(server, transport):
    """One deleted from the first page moves the third element where nobody looks for it again."""
    server.on(PATH, page([1, 2], 4, next_link(2)), page([4], 3), page([2, 3], 3, next_link(2)), page([4], 3))
    assert fetch_list(transport, PATH) == elements(2, 3, 4)


def test_a_list_with_an_element_on_two_pages_is_fetched_anew(server, transport):
    server.on(
        PATH, page([1, 2], 4, next_link(2)), page([2, 3], 4), page([1, 2], 4, next_link(2)), page([3, 4], 4)
    )
    assert fetch_list(transport, PATH) == elements(1, 2, 3, 4)


def test_a_list_that_never_stands_still_is_an_error(server, transport):
    server.on(PATH, *[page([1, 2], 4, next_link(2)), page([2, 3], 4)] * 3)
    with pytest.raises(ProtocolError, match="changed while"):
        fetch_list(transport, PATH)
    assert len(server.seen) == 6


def test_one_page_may_hold_an_element_twice(server, transport):
    """That is not paging's business."""
    server.on(PATH, page([1, 1], 2))
    assert fetch_list(transport, PATH) == elements(1, 1)
