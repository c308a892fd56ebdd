"""The header of a DICOM file as a list of parameters.

Each parameter is ``{"Name": keyword, "Value": number, text or list, "NameText": what the standard calls
it}``. Left out are what no reader of parameters can use: pixel data and other binary values, values too long
to have been read, private attributes (their meaning is not public), sequences (their items have no name of
their own) and empty values.
"""

from __future__ import annotations

from typing import Any

import pydicom
from pydicom.datadict import dictionary_description, dictionary_VR, keyword_for_tag
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from agorafs.sandbox.analysis.values import clean_text, to_number

_BINARY_OR_NESTED = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN", "AT"})
_WHOLE = frozenset({"IS", "SS", "US", "SL", "UL", "SV", "UV"})
_DECIMAL = frozenset({"DS", "FL", "FD"})
_PIXEL_GROUP = 0x7FE0


def parameters_of(header: pydicom.Dataset) -> tuple[dict[str, Any], ...]:
    """Return the parameters of *header* in the order of their tags."""
    parameters = []
    for tag in sorted(header.keys()):
        parameter = _parameter(header, tag)
        if parameter is not None:
            parameters.append(parameter)
    return tuple(parameters)


def _parameter(header: pydicom.Dataset, tag: BaseTag) -> dict[str, Any] | None:
    keyword = keyword_for_tag(tag)
    if tag.is_private or tag.group >= _PIXEL_GROUP or not keyword:
        return None
    raw: Any = header.get_item(tag)
    if raw is None or raw.value is None:
        return None  # empty, or too long to have been read
    if (raw.VR or dictionary_VR(tag)) in _BINARY_OR_NESTED:
        return None
    try:
        element = header[tag]
        value = _json_value(element.value, element.VR)
    except Exception:  # noqa: BLE001  pydicom raises what it likes on a bad value; the others are still good
        return None
    if value is None or value == "" or value == []:
        return None
    return {"Name": keyword, "Value": value, "NameText": dictionary_description(tag)}


def _json_value(value: object, representation: str) -> Any:
    if representation in _BINARY_OR_NESTED or isinstance(value, bytes):
        return None
    if isinstance(value, (MultiValue, list, tuple)):
        members = [_json_value(member, representation) for member in value]
        return None if None in members else members
    if representation in _WHOLE:
        return int(str(value))  # 64-bit values do not fit a float
    if representation in _DECIMAL:
        return to_number(value)
    return clean_text(value)
