"""Certificates: a trusted one works, every other is refused at once with the way out."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
import trustme

from agorafs.errors import ProtocolError, RemoteUnavailable, TlsError
from tests.support.http_server import ScriptedServer, answer_json, redirect

PATH = "/api/v2/project/"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def certificates(authority):
    return {name: authority.issue_cert(name) for name in ("127.0.0.1", "other.example.org")}


@pytest.fixture
def tls_server(certificates):
    server = make_server(certificates["127.0.0.1"])
    yield server
    server.close()


def make_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = ScriptedServer(context)
    server.on(PATH, answer_json("welcome"))
    return server


def test_a_certificate_from_the_given_authority_is_accepted(tls_server, ca_file, make_transport):
    assert make_transport(tls_server.url, verify=ca_file).get_json(PATH) == "welcome"


def test_a_certificate_that_is_not_trusted_is_refused_at_once(tls_server, make_transport, clock):
    begin = clock.now
    with pytest.raises(TlsError, match=r"127\.0\.0\.1.*--ca-bundle"):
        make_transport(tls_server.url).get_json(PATH)
    assert clock.now == begin
    assert tls_server.seen == []


def test_a_certificate_for_another_name_is_refused(certificates, ca_file, make_transport):
    server = make_server(certificates["other.example.org"])
    try:
        with pytest.raises(TlsError, match=r"127\.0\.0\.1"):
            make_transport(server.url, verify=ca_file).get_json(PATH)
    finally:
        server.close()


def test_a_server_without_tls_is_told_apart_from_a_bad_certificate(make_transport):
    def answer_in_plain_text():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_in_plain_text)
        thread.start()
        with pytest.raises(TlsError, match="does not speak TLS"):
            make_transport(f"https://127.0.0.1:{listener.getsockname()[1]}").get_json(PATH)
        thread.join()


def test_certificates_are_not_checked_only_if_that_is_said(tls_server, make_transport):
    assert make_transport(tls_server.url, verify=False).get_json(PATH) == "welcome"


def test_a_tls_error_is_not_a_server_that_is_away(tls_server, make_transport, caplog):
    transport = make_transport(tls_server.url)
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    assert "is away" not in caplog.text


def test_no_redirect_leads_from_https_to_http(tls_server, server, ca_file, make_transport):
    tls_server.on(PATH, redirect(server.url + "/plain/"))
    server.on("/plain/", answer_json("plain"))
    with pytest.raises(ProtocolError, match="unencrypted"):
        make_transport(tls_server.url, verify=ca_file).get_json(PATH)
    assert server.seen == []
    assert make_transport(tls_server.url, verify=ca_file, insecure=True).get_json(PATH) == "plain"
