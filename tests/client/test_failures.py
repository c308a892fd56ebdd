"""The map from the HTTP libraries' exceptions is complete."""

from __future__ import annotations

import http.client
import inspect
import socket
import ssl

import pytest
import requests.exceptions
import urllib3.exceptions

from agorafs.client.failures import FAILURES, HTTP_LIBRARY_ERRORS, failure_of
from agorafs.errors import ProtocolError, RemoteError, RemoteTimeout, RemoteUnavailable, TlsError

# In the modules, but never raised: warnings, and what json and email call their own.
NOT_RAISED = {"CompatJSONDecodeError", "MessageDefect"}


def library_classes():
    for module in (requests.exceptions, urllib3.exceptions, http.client):
        for name, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, Exception) and not issubclass(found, Warning) and name not in NOT_RAISED:
                yield pytest.param(found, id=f"{module.__name__}.{name}")


def bare(kind):
    """An instance, whatever its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", list(library_classes()))
def test_every_exception_of_the_libraries_is_caught_and_becomes_ours(kind):
    assert issubclass(kind, HTTP_LIBRARY_ERRORS)
    assert isinstance(failure_of(bare(kind), "GET x", "host"), RemoteError)


@pytest.mark.parametrize(
    "kind",
    [
        requests.exceptions.ConnectTimeout,
        requests.exceptions.ReadTimeout,
        requests.exceptions.Timeout,
        urllib3.exceptions.ReadTimeoutError,
        urllib3.exceptions.ConnectTimeoutError,
        TimeoutError,
        socket.timeout,
    ],
)
def test_a_wait_that_ended_is_a_timeout(kind):
    assert type(failure_of(bare(kind), "GET x", "host")) is RemoteTimeout


@pytest.mark.parametrize(
    "kind",
    [
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ProxyError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.IncompleteRead,
        urllib3.exceptions.InvalidChunkLength,
        urllib3.exceptions.NameResolutionError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.SSLError,
        ssl.SSLEOFError,
        ConnectionResetError,
        BrokenPipeError,
        socket.gaierror,
    ],
)
def test_a_connection_that_is_not_there_is_unavailable(kind):
    """The exact class decides: this one may be tried again, its subclass TlsError may not."""
    assert type(failure_of(bare(kind), "GET x", "host")) is RemoteUnavailable


@pytest.mark.parametrize(
    "kind",
    [
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidHeader,
        requests.exceptions.TooManyRedirects,
        requests.exceptions.ContentDecodingError,
        requests.exceptions.JSONDecodeError,
        urllib3.exceptions.LocationParseError,
        urllib3.exceptions.DecodeError,
        http.client.BadStatusLine,
    ],
)
def test_what_another_attempt_would_not_cure_is_a_protocol_error(kind):
    assert type(failure_of(bare(kind), "GET x", "host")) is ProtocolError


def test_a_bad_certificate_is_found_under_all_its_wrappings():
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    wrapped = requests.exceptions.SSLError(
        urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.SSLError(inner))  # type: ignore[arg-type]
    )
    failure = failure_of(wrapped, "GET x", "agora.example.org")
    assert type(failure) is TlsError
    assert "agora.example.org" in str(failure)
    assert "--ca-bundle" in str(failure)


def test_the_innermost_reason_is_told_and_no_object_address():
    wrapped = requests.exceptions.ConnectionError(
        urllib3.exceptions.MaxRetryError(None, "/", ConnectionRefusedError(111, "Connection refused"))  # type: ignore[arg-type]
    )
    assert str(failure_of(wrapped, "GET x", "host")) == "GET x: Connection refused"


def test_an_error_of_ours_is_not_taken_for_the_libraries():
    with pytest.raises(TypeError):
        failure_of(KeyError("ours"), "GET x", "host")


def test_every_row_of_the_map_is_reached():
    """A row whose class is not caught would be dead."""
    assert all(issubclass(kind, HTTP_LIBRARY_ERRORS) for kind in FAILURES)
