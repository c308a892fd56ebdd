"""Workbooks: contours and masks of a dataset, as JSON that is made, merged and checked here.

Place.  ``dot_workbooks`` shows them as files, control commands create and change them; both ask the archive through
``client.exploring`` with what these functions return.

Merging.  What is written is put into what the archive has, as the vendor's ``Workbook.update`` does: a mask or a group
of contours takes the place of the one with the same name, a mask keeping its id, or else is added, a mask under the
next free id; the list of buttons is replaced as a whole; both parts carry the workbook's id. Nothing is removed by
being left out. The archive compares nothing: of two who change a workbook at once, the later wins.

Buttons.  A workbook without buttons for contours is drawn in with the seven of cardiac MR (``effective_buttons``).

Pure functions: no state, no request.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agorafs.errors import BadCommand, ProtocolError
from agorafs.vfs.masks import Labels, Mask, encoded

_EXPLICIT_TIME = 1
_ONE_IN_3D = 1
_SEVERAL_IN_3D = 3
_ONE_PER_SLICE = 1

# The vendor's viewer knows these: what it calls a thing, its label in a mask, its colour, how many there can be.
_CARDIAC_CONTOURS = (
    ("lv_epicard", "LV EpiCard", 1, (0, 0, 255), _ONE_IN_3D),
    ("lv_endocard", "LV EndoCard", 2, (255, 0, 0), _ONE_IN_3D),
    ("rv_epicard", "RV EpiCard", 16, (0, 255, 255), _ONE_IN_3D),
    ("rv_endocard", "RV EndoCard", 32, (255, 0, 255), _ONE_IN_3D),
    ("pericard", "PeriCard", 64, (20, 90, 20), _ONE_IN_3D),
    ("scar", "Scar", 4, (0, 255, 0), _SEVERAL_IN_3D),
    ("reference", "Reference", 8, (255, 255, 0), _SEVERAL_IN_3D),
)
_CARDIAC_LANDMARKS = (
    ("rv_insertion_anterior", "Anterior RV insertion", (150, 50, 200)),
    ("rv_insertion_posterior", "Posterior RV insertion", (0, 150, 150)),
)
_LABEL_COLORS = ((230, 63, 65), (63, 130, 230), (63, 190, 90), (240, 200, 60), (160, 80, 200), (70, 200, 200))


def cardiac_contour_buttons() -> list[dict[str, Any]]:
    """Return the buttons of a cardiac MR workbook that draw contours."""
    return [
        {
            "id": number,
            "mCollapsedView": False,
            "mButtonLabel": label,
            "mObjectType": what,
            "mTimeMode": _EXPLICIT_TIME,
            "mContourGroupMode": mode,
            "mContourMaskLabel": mask_label,
            "mObjectColor": _color(color),
        }
        for number, (what, label, mask_label, color, mode) in enumerate(_CARDIAC_CONTOURS)
    ]


def _cardiac_landmark_buttons() -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "mCollapsedView": False,
            "mButtonLabel": label,
            "mObjectType": what,
            "mTimeMode": 0,
            "mLandmarkGroupMode": _ONE_PER_SLICE,
            "mObjectColor": _color(color),
        }
        for number, (what, label, color) in enumerate(_CARDIAC_LANDMARKS)
    ]


def new_workbook(dataset: int, name: str | None = None, *, is_cardiac: bool = False) -> dict[str, Any]:
    """Return what creates a workbook for *dataset*: an empty one, or one for cardiac MR with its buttons."""
    region = {
        "id": 0,
        "mObjectType": "region_of_interest",
        "mButtonLabel": "2D ROI",
        "mTimeMode": 0,
        "mObjectColor": _color(_LABEL_COLORS[0]),
        "mCollapsedView": False,
        "mContourGroupMode": 0,
        "mContourMaskLabel": 1,
    }
    buttons = [*cardiac_contour_buttons(), *_cardiac_landmark_buttons()] if is_cardiac else [region]
    return {
        "id": None,
        "dataset": dataset,
        "name": name or ("CMR Workbook" if is_cardiac else "Workbook 1"),
        "locked": False,
        "contour_tab": True,
        "mask_tab": True,
        "statistics_tab": True,
        "cmr_tab": is_cardiac,
        "contour": {"id": None, "contourGroups": [], "landmarkGroups": [], "objectButtons": buttons},
        "mask": {"id": None, "mMasks": [], "selectedMask": None},
    }


def effective_buttons(workbook: Mapping[str, Any]) -> list[Any]:
    """Return the buttons that contours of *workbook* are drawn with: its own, or the cardiac ones besides."""
    buttons = _list_in(_part(workbook, "contour"), "objectButtons")
    if any(isinstance(button, Mapping) and "mContourGroupMode" in button for button in buttons):
        return buttons
    return [*buttons, *cardiac_contour_buttons()]


def masks_of(workbook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the masks, as the archive has them."""
    return [mask for mask in _list_in(_part(workbook, "mask"), "mMasks") if isinstance(mask, Mapping)]


def contours_of(workbook: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contours, and with which buttons they are drawn."""
    return {**_part(workbook, "contour"), "effective_buttons": effective_buttons(workbook)}


class Change(NamedTuple):
    """What of a workbook is to become different. ``buttons`` None: they stay."""

    masks: Sequence[Mapping[str, Any]] = ()
    contour_groups: Sequence[Mapping[str, Any]] = ()
    buttons: Sequence[Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.masks or self.contour_groups or self.buttons is not None)


def merged(workbook: Mapping[str, Any], change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two parts of *workbook*, mask and contour, with *change* put into them."""
    mask_part = {"mMasks": [], "selectedMask": None, **_part(workbook, "mask"), "id": workbook.get("id")}
    all_masks = _list_in(mask_part, "mMasks")
    for mask in change.masks:
        all_masks = _with_mask(all_masks, mask)
    mask_part["mMasks"] = all_masks
    contour_part = {"landmarkGroups": [], **_part(workbook, "contour"), "id": workbook.get("id")}
    incoming = {group.get("name") for group in change.contour_groups}
    kept = [
        group
        for group in _list_in(contour_part, "contourGroups")
        if not isinstance(group, Mapping) or group.get("name") not in incoming
    ]
    contour_part["contourGroups"] = [*kept, *map(dict, change.contour_groups)]
    contour_part["objectButtons"] = (
        _list_in(contour_part, "objectButtons") if change.buttons is None else list(change.buttons)
    )
    return mask_part, contour_part


def _with_mask(masks: list[Any], mask: Mapping[str, Any]) -> list[Any]:
    known = [one for one in masks if isinstance(one, Mapping)]
    same = next((one for one in known if one.get("name") == mask.get("name")), None)
    if same is not None:
        return [{**mask, "id": same.get("id")} if one is same else one for one in masks]
    highest = max((one["id"] for one in known if type(one.get("id")) is int), default=-1)
    return [*masks, {**mask, "id": highest + 1}]


def with_labels(given: Mapping[str, Any] | None, name: str, labels: Labels) -> dict[str, Any]:
    """Return the mask *given* (None: a new one called *name*) with *labels*; what else it has is kept."""
    mask: dict[str, Any] = copy.deepcopy(dict(given)) if given is not None else {"name": name, "mLabels": []}
    mask.update(encoded(labels))
    about = _list_in(mask, "mLabels")
    described = {one.get("mLabelIndex") for one in about if isinstance(one, Mapping)}
    mask["mLabels"] = about + [
        {
            "mLabelIndex": label,
            "mLabelActive": True,
            "mLabelDescription": f"Label {label}",
            "mLabelColor": _color(_LABEL_COLORS[label % len(_LABEL_COLORS)]),
        }
        for label in sorted(set(labels.data) - {0})
        if label not in described
    ]
    return mask


def parse_change(current: Mapping[str, Any], written: object) -> Change:
    """Return what of *current* becomes different by *written*, an edited workbook.

    Raises:
        BadCommand: It is no workbook, or changes something that the archive takes no change of.
    """
    if not isinstance(written, Mapping):
        raise BadCommand("a workbook is a JSON object with mask and contour")
    for key, value in written.items():
        if key not in ("mask", "contour") and (key not in current or current[key] != value):
            raise BadCommand(f"{key} of a workbook can not be changed, only mask and contour can")
    known = masks_of(current)
    masks = [mask for mask in _named_objects(written, "mask", "mMasks") if mask not in known]
    for mask in masks:
        _check_mask(mask)
    known_groups = _list_in(_part(current, "contour"), "contourGroups")
    groups = [
        group for group in _named_objects(written, "contour", "contourGroups") if group not in known_groups
    ]
    buttons = _part(written, "contour").get("objectButtons")
    if buttons == _list_in(_part(current, "contour"), "objectButtons"):
        buttons = None
    if buttons is not None and (
        not isinstance(buttons, list) or not all(isinstance(button, Mapping) for button in buttons)
    ):
        raise BadCommand("objectButtons of a workbook is a list of objects")
    return Change(masks, groups, buttons)


def _check_mask(given: Mapping[str, Any]) -> None:
    try:
        mask = Mask(given)
        for number in range(mask.shape.planes):
            mask.plane(number)
    except ProtocolError as error:
        raise BadCommand(str(error)) from None


def _named_objects(written: Mapping[str, Any], part: str, key: str) -> list[Mapping[str, Any]]:
    """Return the objects with a name in a list of a part of the workbook that somebody has written."""
    inside = written.get(part)
    if inside is not None and not isinstance(inside, Mapping):
        raise BadCommand(f"{part} of a workbook is an object with a list {key}")
    found = (inside or {}).get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadCommand(f"{key} of a workbook is a list of objects")
    names = [one.get("name") if isinstance(one, Mapping) else None for one in found]
    if not all(isinstance(name, str) and name for name in names):
        raise BadCommand(f"each of {key} is an object with a name")
    if len(set(names)) != len(names):
        raise BadCommand(f"two of {key} have one name")
    return found


def _part(workbook: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = workbook.get(name)
    return dict(part) if isinstance(part, Mapping) else {}


def _list_in(part: Mapping[str, Any], name: str) -> list[Any]:
    found = part.get(name)
    return list(found) if isinstance(found, list) else []


def _color(rgb: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip("rgb", rgb, strict=True))
