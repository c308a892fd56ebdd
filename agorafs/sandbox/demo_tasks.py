"""The tasks of the demo: what the built-in programs do, one with a submenu, a script task, and a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agorafs.sandbox.demo_client import DemoClient

_SERIES, _DATASET, _SELECT, _BOOL = 2, 3, 8, 11
_DICOM = 300


def _input(key: str, type_: int, name: str, **fields: Any) -> dict[str, Any]:
    return {"id": None, "key": key, "type": type_, "name": name, **fields}


_UI_TASKS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "Checksum",
        "execute_template": "checksum {{ inputs.ds.file.path }}",
        "inputs": [
            _input("ds", _DATASET, "Dataset", description="all its files are summed"),
            _input("algorithm", _SELECT, "Algorithm", required=False, select_values=["sha1", "sha256"]),
        ],
    },
    {
        "name": "Header",
        "execute_template": "header {{ inputs.ds.file.path }}",
        "inputs": [_input("ds", _DATASET, "DICOM dataset", data_set_type=_DICOM)],
    },
    {
        "name": "Convert/To NIfTI",
        "execute_template": "nifti {{ inputs.series.path }}",
        "inputs": [
            _input("series", _SERIES, "Series"),
            _input("compress", _BOOL, "Compress", required=False, default=True),
        ],
    },
)
_SCRIPT_TASK = {
    "name": "Checksum of a study",
    "yml": """\
# What the script task does is told by its jobs; the inputs are asked for when it runs.
stages: [sum]
inputs:
  study: {type: study}
  algorithm: {type: select, options: [sha1, sha256], required: false, default: sha256}
sum:
  stage: sum
  host: sandbox
  script_type: command
  script: checksum {{ inputs.study.path }}
""",
}
_HOST = {"name": "sandbox", "address": "127.0.0.1", "operating_system": "linux", "is_active": True}


async def seed_tasks(client: DemoClient, project: int) -> None:
    """Add tasks and host to a project, those it does not have yet."""
    for path, url, wanted in (
        (f"v2/project/{project}/task/", "v1/taskdefinition/", _UI_TASKS),
        (f"v2/project/{project}/taskdefinition_yaml/", "v2/taskdefinition_yaml/", (_SCRIPT_TASK,)),
        (f"v2/project/{project}/host/", f"v2/project/{project}/host/", (_HOST,)),
    ):
        names = {entry["name"] for entry in await client.entries(path)}
        for body in wanted:
            if body["name"] not in names:
                await client.call("POST", url, json={**body, "project": project})
