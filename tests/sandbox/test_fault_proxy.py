"""The proxy of the tests passes what it is not told to break, and breaks exactly what it is told."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading

import pytest
import requests

from tests.sandbox.test_imports import complete, new_package, tree
from tests.support.fault_proxy import (
    FaultProxy,
    answer,
    cut_answer,
    cut_request,
    delay,
    lose_answer,
    pass_on,
    stall,
)
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

CONTENT = bytes(range(256)) * 16 * 1024  # 4 MiB
LOST = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


class Client:
    """A user of the API behind the proxy, with one connection that is kept."""

    def __init__(self, proxy, sandbox):
        self.proxy, self.key = proxy, sandbox.api_key
        self.session = requests.Session()
        self.session.trust_env = False

    def api(self, method, path, **options):
        headers = {"Authorization": f"X-Agora-Api-Key {self.key}"}
        options.setdefault("timeout", 30)
        return self.session.request(method, f"{self.proxy.url}/api/{path}", headers=headers, **options)

    def send_chunk(self, package, content=CONTENT, number=1, chunks=1):
        form = {
            "flowChunkNumber": number,
            "flowTotalChunks": chunks,
            "flowTotalSize": len(CONTENT),
            "flowIdentifier": "i",
            "flowFilename": "f",
        }
        return self.api("POST", f"v1/import/{package}/upload/", data=form, files={"file": ("f", content)})


@pytest.fixture
def proxy(sandbox):
    with FaultProxy(sandbox.port) as running:
        yield running


@pytest.fixture
def client(proxy, sandbox):
    made = Client(proxy, sandbox)
    yield made
    made.session.close()


def stored_chunks(sandbox, package):
    directory = sandbox.data / "imports" / str(package)
    return len(list(directory.iterdir())) if directory.exists() else 0


def import_and_compare(sandbox, project, package):
    assert complete(sandbox, package, folder=project.root) == 204
    assert sandbox.wait_for_import(package) == 5
    assert tree(sandbox, project.root) == {"f": hashlib.sha1(CONTENT).hexdigest()}


# -- passing -----------------------------------------------------------------------------------------


def test_everything_passes_on_one_kept_connection(client, proxy, sandbox, project):
    package = client.api("POST", "v1/import/", json={}).json()["id"]
    assert client.send_chunk(package).status_code == 200
    assert (
        client.api("POST", f"v1/import/{package}/complete/", json={"folder": project.root}).status_code == 204
    )
    assert sandbox.wait_for_import(package) == 5
    datafile = client.api("GET", f"v1/import/{package}/result/").json()["datafiles"][0]["id"]
    assert client.api("GET", f"v1/datafile/{datafile}/download/").content == CONTENT
    assert client.api("HEAD", f"v1/datafile/{datafile}/download/").content == b""
    assert client.api("GET", f"v1/datafile/{datafile}/download/").content == CONTENT
    assert [request.partition("?")[0] for request in proxy.seen] == [
        "POST /api/v1/import/",
        f"POST /api/v1/import/{package}/upload/",
        f"POST /api/v1/import/{package}/complete/",
        f"GET /api/v1/import/{package}/result/",
        f"GET /api/v1/datafile/{datafile}/download/",
        f"HEAD /api/v1/datafile/{datafile}/download/",
        f"GET /api/v1/datafile/{datafile}/download/",
    ]
    assert proxy.accepted == 1


def test_a_body_in_chunks_passes(client, proxy, sandbox, project):
    body = (piece for piece in (b'{"name":', b' "made"', b"}"))
    assert client.api("POST", f"v1/folder/{project.root}/new/", data=body).status_code == 201
    assert sandbox.get(f"v1/folder/{project.root}/items/")[0]["content_object"]["name"] == "made"
    assert client.api("GET", "v1/version/").status_code == 200


def test_a_client_that_waits_for_permission_to_send_its_body_gets_it(proxy, sandbox):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    connection.putrequest("POST", "/api/v1/import/")
    connection.putheader("Authorization", f"X-Agora-Api-Key {sandbox.api_key}")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "2")
    connection.endheaders()
    assert connection.sock.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100"
    connection.send(b"{}")
    assert connection.getresponse().status == 201
    connection.close()


def test_an_answer_before_the_end_of_the_body_reaches_the_client(client, sandbox):
    sandbox.switch(chunk_max=10)
    package = new_package(sandbox)
    assert client.send_chunk(package).status_code == 413
    sandbox.switch(chunk_max=0)
    assert client.send_chunk(package).status_code == 200


def test_several_clients_pass_at_once(proxy, sandbox):
    package = new_package(sandbox)
    barrier, answers = threading.Barrier(4), []

    def send(number):
        client = Client(proxy, sandbox)
        barrier.wait(30)
        answers.append(client.send_chunk(package, CONTENT, number, 4).status_code)
        client.session.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4
    assert stored_chunks(sandbox, package) == 4


# -- breaking ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1000, len(CONTENT) // 2])
def test_a_request_is_cut_in_its_body_and_the_server_stores_nothing(client, proxy, sandbox, project, after):
    package = new_package(sandbox)
    rule = proxy.on("POST /upload/", cut_request(after))
    with pytest.raises(LOST):
        client.send_chunk(package)
    assert rule.struck == 1
    # What had come is thrown away when the server learns that no more will.
    eventually(lambda: stored_chunks(sandbox, package) == 0, 10)
    assert client.send_chunk(package).status_code == 200
    assert rule.struck == 1
    import_and_compare(sandbox, project, package)


def test_an_answer_is_lost_although_the_server_did_it(client, proxy, sandbox, project):
    package = new_package(sandbox)
    rule = proxy.on("POST /upload/", lose_answer())
    with pytest.raises(LOST):
        client.send_chunk(package)
    assert (rule.struck, stored_chunks(sandbox, package)) == (1, 1)
    lost = proxy.on("/complete/", lose_answer())
    with pytest.raises(LOST):
        client.api("POST", f"v1/import/{package}/complete/", json={"folder": project.root})
    assert lost.struck == 1
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is True
    import_and_compare(sandbox, project, package)


@pytest.mark.parametrize("after", [None, 0, 1])
def test_an_answer_ends_in_its_middle(client, proxy, sandbox, project, after):
    rule = proxy.on("POST /new/", cut_answer(after))
    with pytest.raises(LOST):
        client.api("POST", f"v1/folder/{project.root}/new/", json={"name": "made"})
    assert rule.struck == 1
    assert sandbox.get(f"v1/folder/{project.root}/items/")[0]["content_object"]["name"] == "made"


def test_an_answer_without_a_body_ends_in_its_head(client, proxy, sandbox, project):
    package = new_package(sandbox)
    rule = proxy.on("/complete/", cut_answer())
    with pytest.raises(LOST):
        client.api("POST", f"v1/import/{package}/complete/", json={"folder": project.root})
    assert rule.struck == 1
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is True


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_request_stalls_for_ever_with_or_without_the_server_doing_it(
    client, proxy, sandbox, project, carried_out
):
    rule = proxy.on("POST /new/", stall(carried_out=carried_out))
    with pytest.raises(requests.Timeout):
        client.api("POST", f"v1/folder/{project.root}/new/", json={"name": "made"}, timeout=1)
    assert rule.struck == 1
    assert len(sandbox.get(f"v1/folder/{project.root}/items/")) == int(carried_out)


def test_the_proxy_answers_itself_and_the_connection_stays(client, proxy, sandbox):
    package = new_package(sandbox)
    rule = proxy.on("/upload/", answer(503, b'{"detail": "busy"}', {"Retry-After": "2"}), times=2)
    sandbox.reset_requests()
    for _ in range(2):
        refused = client.send_chunk(package)
        assert (refused.status_code, refused.headers["Retry-After"], refused.json()) == (
            503,
            "2",
            {"detail": "busy"},
        )
    assert client.send_chunk(package).status_code == 200
    assert rule.struck == 2
    assert sandbox.request_count() == 1


def test_a_request_is_delayed_and_then_done(client, proxy):
    rule = proxy.on("/version/", delay(0.01))
    assert client.api("GET", "v1/version/").status_code == 200
    assert rule.struck == 1


# -- which request -----------------------------------------------------------------------------------


def codes(client, count, method="GET", path="v1/version/"):
    return [client.api(method, path).status_code for _ in range(count)]


def test_a_rule_takes_the_nth_request_the_next_so_many_or_all_from_there(client, proxy):
    rule = proxy.on("GET /version/", answer(500), at=2)
    assert codes(client, 4) == [200, 500, 200, 200]
    assert (rule.struck, rule.matched) == (1, 4)
    proxy.clear()
    proxy.on("/version/", answer(500), at=2, times=2)
    assert codes(client, 4) == [200, 500, 500, 200]
    proxy.clear()
    proxy.on("/version/", answer(500), at=2, times=None)
    assert codes(client, 4) == [200, 500, 500, 500]


def test_an_action_can_look_at_a_body_that_then_reaches_the_server(client, proxy, sandbox, project):
    bodies = []

    def look(exchange):
        bodies.append(exchange.read_body())
        return pass_on(exchange)

    rule = proxy.on("POST /new/", look, times=None)
    client.api("POST", f"v1/folder/{project.root}/new/", data=b'{"name": "counted"}')
    client.api("POST", f"v1/folder/{project.root}/new/", data=iter([b'{"name": ', b'"in chunks"}']))
    assert bodies == [b'{"name": "counted"}', b'{"name": "in chunks"}']
    assert rule.struck == 2
    items = sandbox.get(f"v1/folder/{project.root}/items/")
    assert [item["content_object"]["name"] for item in items] == ["counted", "in chunks"]


def test_rules_are_offered_a_request_in_order_and_only_that_which_fits(client, proxy):
    proxy.on("POST /version/", answer(501))
    proxy.on("/elsewhere/", answer(502))
    proxy.on("/version/", answer(503))
    proxy.on("/version/", answer(504))
    assert codes(client, 3) == [503, 504, 200]


# -- the whole network -------------------------------------------------------------------------------


def test_offline_refuses_and_resets_and_online_works_again_at_the_same_address(client, proxy, sandbox):
    assert codes(client, 1) == [200]
    for _ in range(3):
        proxy.offline()
        with pytest.raises(requests.ConnectionError, match="refused"):
            requests.get(f"{proxy.url}/api/v1/version/", timeout=30)
        with pytest.raises(requests.ConnectionError):
            client.api("GET", "v1/version/")
        proxy.online()
        assert codes(client, 2) == [200, 200]


def test_offline_ends_what_is_under_way(client, proxy, sandbox, project):
    proxy.on("/new/", stall())
    outcome = []

    def ask():
        try:
            client.api("POST", f"v1/folder/{project.root}/new/", json={"name": "never"})
        except LOST as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not proxy.seen:
        thread.join(0.01)
    proxy.offline()
    thread.join(30)
    assert len(outcome) == 1
    assert sandbox.get(f"v1/folder/{project.root}/items/") == []


def test_the_client_hears_of_it_when_the_server_dies_and_finds_the_next_one(tmp_path):
    with SandboxProcess(tmp_path / "data") as sandbox, FaultProxy(sandbox.port) as proxy:
        client = Client(proxy, sandbox)
        assert codes(client, 1) == [200]
        sandbox.kill()
        with pytest.raises(LOST):
            client.api("GET", "v1/version/")
        sandbox.start()
        assert codes(client, 1) == [200]
        client.session.close()
