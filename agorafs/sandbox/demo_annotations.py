"""What people said about the demo: tags, ratings, parameters of their own, a workbook, and something in the trash.

Why.  Who looks for "all series rated 4 or better and tagged good" should find some, and not all. The masks are an
ellipsoid in the middle of a real image, so that a viewer shows them where a head is.

Everything is made through the API, but for the relation, which only imports make.

Idempotence.  As everywhere in the demo: each step looks for what is there already.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from agorafs.sandbox.demo_client import DemoClient

GOOD, CHECKED = "good", "checked"
LABELS = {GOOD: "#2e9e44", CHECKED: "#2b6cb0"}

# Voxels of nibabel's anatomical.nii, which the workbook is about.
ANATOMICAL = "anatomical.nii"
ANATOMICAL_SHAPE = (33, 41, 25)

TRASHED = "Old notes"

_LARGEST_RUN = 255  # in one byte
_REGULAR, _EMPTY = 6, 0  # codings of a slice

Object = tuple[str, int]  # content type and id


async def annotate(
    client: DemoClient,
    project: int,
    *,
    tags: Mapping[str, Sequence[Object]],
    ratings: Mapping[Object, int],
) -> None:
    """Tag and rate objects of one project."""
    known = {tag["label"]: tag["id"] for tag in await client.entries(f"v2/project/{project}/tag-definition/")}
    for label, objects in tags.items():
        if label not in known:
            made = {"label": label, "project": project, "color": LABELS[label]}
            known[label] = (await client.call("POST", "v2/tag-definition/", json=made))["id"]
        for content_type, id_ in objects:  # tagging twice is tagging once
            form = {
                "tag_definition": known[label],
                "tagged_object_content_type": content_type,
                "tagged_object_id": id_,
            }
            await client.call("POST", "v2/tag-instance/", json=form)
    for (content_type, id_), value in ratings.items():
        form = {"value": value, "rated_object_content_type": content_type, "rated_object_id": id_}
        await client.call("POST", "v2/rating/", json=form)


async def add_parameters(client: DemoClient, path: str, name: str, parameters: Mapping[str, Any]) -> None:
    """Give the object at *path* (``exam/3``) a parameter set of that name, unless it has one."""
    if name not in [head["name"] for head in await client.entries(f"v2/{path}/parametersets/")]:
        listed = [{"Name": key, "Value": value} for key, value in parameters.items()]
        await client.call("POST", f"v2/{path}/parametersets/", json={"name": name, "parameters": listed})


async def add_workbook(client: DemoClient, folder: int) -> None:
    """Draw masks on the anatomical image in *folder*, unless that was done."""
    items = await client.entries(f"v1/folder/{folder}/items/")
    (dataset,) = [i["object_id"] for i in items if i["content_object"].get("name") == ANATOMICAL]
    if await client.entries(f"v2/dataset/{dataset}/workbook/"):
        return
    workbook = {
        "dataset": dataset,
        "name": "Segmentation",
        "locked": False,
        "contour_tab": True,
        "mask_tab": True,
        "statistics_tab": True,
        "cmr_tab": False,
        "contour": {"contourGroups": [], "landmarkGroups": [], "objectButtons": []},
        "mask": {"mMasks": [_mask(0, "head", 1), _mask(1, "hemispheres", 2)], "selectedMask": 0},
    }
    await client.call("POST", "v2/workbook/", json=workbook)


async def fill_trash(client: DemoClient, project: int, root: int) -> None:
    """Leave one deleted folder in the trash of a project."""
    entries = await client.entries("v1/trash/")
    if any(entry["project"] == project and entry["name"] == TRASHED for entry in entries):
        return
    folder = await client.folder(root, TRASHED)
    await client.upload({"ideas.txt": "- ask for a longer slot\n"}, folder=folder)
    await client.call("DELETE", f"v2/folder/{folder}/")


# -- masks -------------------------------------------------------------------------------------------


def _mask(number: int, name: str, labels: int) -> dict[str, Any]:
    """Return a mask of the ellipsoid; with two labels, the second is for its right half."""
    width, height, depth = ANATOMICAL_SHAPE
    return {
        "id": number,
        "name": name,
        "mLabels": [
            {
                "mLabelIndex": label,
                "mLabelActive": True,
                "mLabelDescription": "",
                "mLabelColor": color,
            }
            for label, color in zip(range(1, labels + 1), ("#e63f41", "#3f7be6"), strict=False)
        ],
        "mSizeX": width,
        "mSizeY": height,
        "mSizeZ": depth,
        "mSizeT": 1,
        "mSliceSize": width * height,
        "mSliceMask": [{"mBase64Values": _encoded(_plane(z, labels))} for z in range(depth)],
    }


def _plane(z: int, labels: int) -> list[int]:
    width, height, _ = ANATOMICAL_SHAPE
    middle = [(size - 1) / 2 for size in ANATOMICAL_SHAPE]

    def label(x: int, y: int) -> int:
        distance = sum(((at - mid) / (0.8 * mid)) ** 2 for at, mid in zip((x, y, z), middle, strict=True))
        return 0 if distance > 1 else 2 if labels == 2 and x > middle[0] else 1

    return [label(x, y) for y in range(height) for x in range(width)]


def _encoded(plane: Sequence[int]) -> str:
    """Return a plane as runs of labels: the first length takes three bytes, all others one."""
    if not any(plane):
        return base64.b64encode(bytes((_EMPTY,))).decode()
    runs = [(label, len(list(run))) for label, run in itertools.groupby(plane)]
    (first, length), rest = runs[0], runs[1:]
    coded = [_REGULAR, first, *length.to_bytes(3, "big")]
    for label, count in rest:
        while count:
            part = min(count, _LARGEST_RUN)
            coded += (label, part)
            count -= part
    return base64.b64encode(bytes(coded)).decode()
