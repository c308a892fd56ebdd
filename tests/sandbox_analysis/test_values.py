"""Values of headers become numbers, dates and text, or nothing."""

from __future__ import annotations

import datetime as dt
import json

import pydicom
import pytest

from agorafs.sandbox.analysis.dicom_parameters import parameters_of
from agorafs.sandbox.analysis.values import (
    clean_text,
    epoch_timestamp,
    parse_date,
    parse_time,
    to_integer,
    to_number,
    utc_timestamp,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        (" -2.5e3 ", -2500.0),
        (".5", 0.5),
        ("1_000", None),
        ("nan", None),
        ("1e999", None),
        ("", None),
    ],
)
def test_only_plain_finite_decimals_are_numbers(text, number):
    assert to_number(text) == number


@pytest.mark.parametrize(
    ("text", "integer"), [("12", 12), ("12.0", 12), ("12.5", None), ("99999999999", None), (None, None)]
)
def test_integers_are_whole_and_fit_32_bits(text, integer):
    assert to_integer(text) == integer


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("20240229", dt.date(2024, 2, 29)),
        ("2024.02.29", dt.date(2024, 2, 29)),
        ("20230229", None),
        ("00000000", None),
        ("yesterday", None),
    ],
)
def test_a_date_that_is_in_no_calendar_is_no_date(text, date):
    assert parse_date(text) == date


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("12", dt.time(12)),
        ("1213", dt.time(12, 13)),
        ("121314.5", dt.time(12, 13, 14, 500000)),
        ("12:13:14", dt.time(12, 13, 14)),
        ("235960", dt.time(23, 59, 59)),  # a leap second
        ("250000", None),
        ("", None),
    ],
)
def test_a_time_may_be_cut_after_any_part(text, time):
    assert parse_time(text) == time


def test_a_moment_outside_of_the_calendar_is_no_moment():
    assert utc_timestamp(dt.date(1, 1, 1), None, dt.timedelta(hours=14)) is None
    assert utc_timestamp(None, dt.time(12)) is None
    assert epoch_timestamp(10**18) is None


def test_text_has_no_padding_control_characters_or_lone_surrogates():
    assert clean_text(" a\0\r\nb\ud800 ") == "a b?"


def test_64_bit_numbers_keep_every_digit_and_values_json_has_no_form_for_are_left_out():
    header = pydicom.Dataset()
    header.SelectorUVValue = [2**63 + 1, 7]
    header.PatientWeight = "72.5"
    header.add_new(0x00181318, "FD", float("nan"))
    header.PatientComments = ""
    header.add_new(0x00090010, "LO", "PRIVATE")
    header.BeamSequence = [pydicom.Dataset()]
    parameters = parameters_of(header)
    values = {parameter["Name"]: parameter["Value"] for parameter in parameters}
    assert values["SelectorUVValue"] == [2**63 + 1, 7]
    assert values["PatientWeight"] == 72.5
    assert not {"dBdt", "PatientComments", "BeamSequence"} & set(values)
    json.dumps(parameters, allow_nan=False)
