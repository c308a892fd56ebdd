"""Switches and the notation of faults, without a server."""

from __future__ import annotations

import pytest

from agorafs.sandbox.faults import Fault, Faults
from agorafs.sandbox.switches import SWITCHES, SwitchError, Switches, parse_option


def strikes(text, requests):
    faults = Faults.parse(text)
    return [fault.kind if (fault := faults.take(method, path)) else None for method, path in requests]


def test_every_switch_has_a_default_it_accepts():
    switches = Switches()
    switches.set({name: switch.default for name, switch in SWITCHES.items()})
    assert switches.as_json() == {name: switch.default for name, switch in SWITCHES.items()}


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("rangs", "off", "there is no switch 'rangs'"),
        ("ranges", "maybe", "on or off"),
        ("page-max", "-1", "whole number"),
        ("fault", "explode:/:1", "there is no fault 'explode'"),
        ("fault", "reset:/datafile/:often", "KIND"),
        ("fault", "status=abc:/:1", "KIND"),
        ("fault", "reset-upload=half:/upload/:1", "KIND"),
        ("existing", "somewhere", "here or elsewhere or any-name"),
    ],
)
def test_a_wrong_switch_is_refused_and_changes_nothing(name, value, part):
    switches = Switches({"page-max": "7"})
    with pytest.raises(SwitchError, match=part):
        switches.set({"page-max": "9", name: value} if name != "page-max" else {name: value})
    assert switches.number("page-max") == 7


def test_booleans_and_lists_from_json_are_understood():
    switches = Switches()
    switches.set({"ranges": False, "page-max": 5, "fault": ["reset:/a:1", "html:/b:1"]})
    assert (switches.is_on("ranges"), switches.number("page-max")) == (False, 5)
    assert switches.text("fault") == "reset:/a:1,html:/b:1"


def test_an_option_is_name_equals_value():
    assert parse_option("fault=status=503:/x:1") == ("fault", "status=503:/x:1")
    with pytest.raises(SwitchError):
        parse_option("ranges")


def test_a_count_strikes_the_next_matching_requests_only():
    requests = [("GET", "/other"), ("GET", "/datafile/1"), ("GET", "/datafile/2"), ("GET", "/datafile/3")]
    assert strikes("reset:/datafile/:2", requests) == [None, "reset", "reset", None]


def test_every_nth_and_always_and_methods():
    requests = [("GET", "/a")] * 4
    assert strikes("html:/a:every-2", requests) == [None, "html", None, "html"]
    assert strikes("html:/a:*", requests) == ["html"] * 4
    assert strikes("html", requests) == ["html"] * 4
    assert strikes("reset:POST /a:1,html:GET :1", [("GET", "/a"), ("POST", "/a"), ("GET", "/a")]) == [
        "html",
        "reset",
        None,
    ]


def test_a_fault_knows_its_argument():
    assert Fault.parse("status=429/7:/x:1").argument == "429/7"
    assert Fault.parse("truncate:/x:*").argument == "0.5"
