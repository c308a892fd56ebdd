"""The server's address: what is accepted, refused, and who counts as the same server."""

from __future__ import annotations

import pytest

from agorafs.client.base_url import BaseUrl, is_loopback
from agorafs.errors import ExitStatus, ProtocolError, UsageError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://agora.example.org", "https://agora.example.org"),
        ("https://agora.example.org/", "https://agora.example.org"),
        (" HTTPS://Agora.example.org:8443/sites/agora// ", "https://agora.example.org:8443/sites/agora"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:80/x/", "http://[::1]:80/x"),
    ],
)
def test_an_address_is_kept_without_its_last_slash(written, meant):
    assert BaseUrl.parse(written).text == meant


@pytest.mark.parametrize(
    "text",
    ["", "agora.example.org", "ftp://agora.example.org", "https://", "https:///x", "https://a:99999", "https://[::1",
     "https://a b/", "https://a/?x=1", "https://a/#x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError) as caught:
        BaseUrl.parse(text)
    assert caught.value.exit_status is ExitStatus.USAGE


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as caught:
        BaseUrl.parse("https://ann:sesame@agora.example.org")
    assert "sesame" not in str(caught.value)
    assert "API key" in str(caught.value)


@pytest.mark.parametrize(
    "host", ["agora.example.org", "10.0.0.1", "[2001:db8::1]", "localhost.example.org", "0.0.0.0"]
)
def test_http_to_another_machine_is_refused_with_the_way_out(host):
    with pytest.raises(UsageError, match="--insecure") as caught:
        BaseUrl.parse(f"http://{host}/")
    assert f"http://{host}/" in str(caught.value)
    assert caught.value.exit_status is ExitStatus.INSECURE_URL
    assert BaseUrl.parse(f"http://{host}/", insecure=True).text == f"http://{host}"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_addresses_are_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    ("base", "url", "is_same"),
    [
        ("https://a.org/x", "https://a.org/y", True),
        ("https://a.org", "https://A.org:443/y", True),
        ("https://a.org", "https://a.org:8443/y", False),
        ("https://a.org", "https://b.org/y", False),
        ("https://a.org", "https://a.org.evil.example/y", False),
        ("https://a.org", "https://a.org@evil.example/y", False),
        ("https://a.org", "http://a.org/y", False),
        ("http://localhost", "https://localhost/y", True),
        ("http://localhost:8000", "https://localhost/y", False),
        ("http://localhost:8000", "http://127.0.0.1:8000/y", False),
    ],
)
def test_only_the_same_origin_or_its_step_up_to_https_is_the_same_server(base, url, is_same):
    assert BaseUrl.parse(base).is_same_origin(url) is is_same


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("https://agora.example.org/api/v1/exam/?limit=2&offset=2", "/api/v1/exam/?limit=2&offset=2"),
        ("http://backend:8000/api/v1/exam/?offset=2", "/api/v1/exam/?offset=2"),
        ("https://agora.example.org/prefix/api/v1/exam/?offset=2", "/api/v1/exam/?offset=2"),
        ("/api/v1/exam/?offset=2", "/api/v1/exam/?offset=2"),
        ("?offset=2", "/api/v1/exam/?offset=2"),
        ("/api/v1/exam/", "/api/v1/exam/"),
    ],
)
def test_of_a_link_only_path_and_query_count(link, path):
    assert BaseUrl.parse("https://agora.example.org/prefix").api_path(link, "/api/v1/exam/") == path


@pytest.mark.parametrize("link", ["https://agora.example.org/login/", "../../x"])
def test_a_link_out_of_the_api_is_a_protocol_error(link):
    with pytest.raises(ProtocolError, match="does not lead"):
        BaseUrl.parse("https://agora.example.org").api_path(link, "/api/v1/exam/")
