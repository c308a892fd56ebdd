"""The demo: what ``agorafs sandbox --seed demo`` fills an empty server with.

::

    Neuro Study     a brain exam of two series, one of them with 176 slices; a locked diffusion exam; folders
                    several levels deep with NIfTI, MINC, PAR/REC and documents; links of every kind; a folder
                    linked into its own child; tags, ratings, parameters of users, a workbook, something in the trash
    Phantom QA      a Bruker study, single DICOM objects of many kinds, PAR/REC made a study by an import JSON,
                    reports by year and month, and everything with a difficult name
    My Agora        a DICOM CD and a few notes

Whatever the API can create is uploaded, imported and linked through it; the rest is in ``demo_hostile``.

The scientist may write in both projects, the observer may read the first.

Switches.  While it seeds, the server is as it is without any ``--switch``: faults are meant for those who read
the demo. Afterwards the switches are as before.

Idempotence.  A setting in the store says that the seeding is complete. One that was interrupted is repeated:
its steps find what is there already. The objects of ``demo_hostile`` and the setting are one transaction.

Failure.  ``DemoUnavailable`` when a package is missing, ``SeedingError`` when a step fails.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp

from agorafs.sandbox.demo_annotations import (
    CHECKED,
    GOOD,
    add_parameters,
    add_workbook,
    annotate,
    fill_trash,
)
from agorafs.sandbox.demo_client import Content, DemoClient
from agorafs.sandbox.demo_data import DemoTree, write_files
from agorafs.sandbox.demo_hostile import add_hostile_objects
from agorafs.sandbox.demo_tasks import seed_tasks
from agorafs.sandbox.objects import OBSERVER, SCIENTIST, add_relation
from agorafs.sandbox.store import Store
from agorafs.sandbox.switches import SWITCHES, Switches

_SEEDED = "demo-seeded"
_TIMEOUT_S = 120.0
# Polls cost time; and a repeated seeding meets the exam that the interrupted one had locked.
_WHILE_SEEDING = {"import-speed": "0", "locked-refuses": "off"}

LONG_NAME = ("A name of three hundred characters, " * 9)[:300]
DECOMPOSED_NAME = "Mu\u0308ller, Zu\u0308rich"  # u and a combining diaeresis: NFD, as macOS writes it

# Names that need escaping somewhere: in a URL, a shell, a file system, or only in a careless program.
FOLDER_NAMES = (
    "a/b",
    "results: 2024",
    "trailing dot.",
    "..",
    LONG_NAME,
    DECOMPOSED_NAME,
    "M\u00fcller, Z\u00fcrich",  # the same name to the eye, composed: NFC
    "Case",
    "case",
    " leading and trailing ",
)
FILE_NAMES = (
    "a:b.txt",
    "trailing dot.",
    "percent %20 #1?.txt",
    "back\\slash.txt",
    'quote\'s "double" $HOME `id`.txt',
    ".hidden",
    "CON.txt",
    "-rf",
    "brain \U0001f9e0.txt",
    "脳.txt",
    f"{DECOMPOSED_NAME}.txt",
    f"{LONG_NAME[:296]}.txt",
    "duplicate.txt",
)
EXAM_NAMES = ("a/b: knee.", LONG_NAME, DECOMPOSED_NAME, "Duplicate", "Duplicate")


class SeedTarget(Protocol):
    """The running server, as far as seeding needs it."""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""

    @property
    def api_key(self) -> str:
        """The key of the user who will own the demo."""

    @property
    def store(self) -> Store:
        """The server's store."""

    @property
    def switches(self) -> Switches:
        """The server's switches."""


async def seed(server: SeedTarget) -> None:
    """Fill *server*, which is running, with the demo; a server that has it already is left alone."""
    if await asyncio.to_thread(server.store.setting, _SEEDED) is not None:
        return
    switches = server.switches.as_json()
    server.switches.set({name: switch.default for name, switch in SWITCHES.items()} | _WHILE_SEEDING)
    try:
        with tempfile.TemporaryDirectory(prefix="agorafs-demo-") as scratch:
            writing = asyncio.ensure_future(asyncio.to_thread(write_files, Path(scratch)))
            try:
                tree = await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing  # a thread cannot be stopped, and its directory goes only when it is done
                raise
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            # The certificate need not be one that anybody trusts: the server is this process.
            connector = aiohttp.TCPConnector(ssl=False)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                client = DemoClient(session, server.url, server.api_key)
                rest = await _seed_everything(client, tree)
        await asyncio.to_thread(_finish, server.store, rest)
    finally:
        server.switches.set(switches)


class _Rest(NamedTuple):
    """What the API cannot make, and the store must be given."""

    names: int  # the folder of difficult names, for hostile objects
    related: tuple[int, int]  # two series


async def _seed_everything(client: DemoClient, tree: DemoTree) -> _Rest:
    neuro_study = await client.project(
        "Neuro Study", "Brain scans of volunteers, with what was derived from them"
    )
    phantom_qa = await client.project("Phantom QA", "Monthly checks of the scanners")
    users = {user["username"]: user["id"] for user in await client.entries("v1/user/")}
    for project, user, role in (
        (neuro_study, "scientist", SCIENTIST),
        (phantom_qa, "scientist", SCIENTIST),
        (neuro_study, "observer", OBSERVER),
    ):
        membership = {"project": project["id"], "user": users[user], "role": role}
        await client.call("POST", "v1/projectmembership/", json=membership)
    related = await _seed_neuro_study(client, tree, neuro_study)
    await seed_tasks(client, neuro_study["id"])
    await _seed_my_agora(client, tree)
    return _Rest(await _seed_phantom_qa(client, tree, phantom_qa), related)


def _finish(store: Store, rest: _Rest) -> None:
    with store.transaction() as db:
        add_hostile_objects(store, rest.names)
        add_relation(db, "serie", rest.related[0], "serie", rest.related[1])
        store.setting(_SEEDED, lambda: "1")


async def _seed_neuro_study(
    client: DemoClient, tree: DemoTree, project: Mapping[str, Any]
) -> tuple[int, int]:
    """Return the two series of the brain exam."""
    root = project["root_folder"]
    raw_data = await client.folder(root, "Raw data")
    brain = await client.upload(_files(tree.brain), folder=raw_data)
    diffusion = await client.upload(
        {**_files(tree.diffusion), "physiology.log": "time_s,pulse\n0.0,61\n1.0,62\n"},
        folder=raw_data,
        relations={"0.dcm": ["physiology.log"]},
    )

    derived = await client.folder(root, "Derived")
    nifti = await client.folder(derived, "NIfTI")
    await client.upload(_files(tree.nifti), folder=nifti)
    large = await client.upload({tree.large_nifti.name: tree.large_nifti}, folder=nifti)
    await client.upload(_files(tree.minc), folder=await client.folder(derived, "MINC"))
    await client.upload(_files(tree.parrec), folder=await client.folder(root, "Scanner exports", "PAR REC"))
    await client.upload(_files(tree.documents), folder=await client.folder(root, "Documents"))

    (brain_exam,), (diffusion_exam,) = brain["exam"], diffusion["exam"]
    session_1 = await client.folder(raw_data, "Session 1")
    await client.link("exam", brain_exam, session_1)
    await client.link("exam", diffusion_exam, await client.folder(raw_data, "Session 2"))
    favourites = await client.folder(root, "Favourites")
    await client.link("exam", brain_exam, favourites)
    await client.link("series", max(brain["serie"]), favourites)
    await client.link("dataset", large["dataset"][0], favourites)
    await client.link("folder", derived, favourites)
    loop = await client.folder(root, "Loop")
    await client.link("folder", loop, await client.folder(loop, "Child"))
    survey, anatomy = sorted(brain["serie"])
    (diffusion_series,) = diffusion["serie"]
    await annotate(
        client,
        project["id"],
        tags={
            GOOD: [("serie", anatomy), ("serie", diffusion_series), ("dataset", large["dataset"][0])],
            CHECKED: [("exam", brain_exam), ("serie", survey), ("serie", anatomy)],
        },
        ratings={("serie", survey): 2, ("serie", anatomy): 5, ("serie", diffusion_series): 4},
    )
    await add_parameters(
        client,
        f"series/{anatomy}",
        "Quality",
        {"snr": 31.5, "motion": "none", "snr_by_slice_group": [29.8, 31.5, 30.2]},
    )
    await add_workbook(client, nifti)
    await fill_trash(client, project["id"], root)
    await client.call("POST", "v2/exam/lock_ids/", data={"ids": str(diffusion_exam)})
    return survey, anatomy


async def _seed_phantom_qa(client: DemoClient, tree: DemoTree, project: Mapping[str, Any]) -> int:
    """Return the folder of difficult names."""
    root = project["root_folder"]
    inbox = await client.folder(root, "Inbox")
    bruker = await client.upload(_files(tree.bruker), folder=inbox)
    await annotate(
        client,
        project["id"],
        tags={GOOD: [("serie", min(bruker["serie"]))]},
        ratings={("serie", series): 4 for series in bruker["serie"]},
    )
    await client.upload(_files(tree.objects), folder=inbox)
    pair = {path.name: path for path in tree.parrec.iterdir() if path.stem == "phantom_varscale"}
    await client.upload(
        pair,
        folder=inbox,
        import_json=_import_json(
            "Phantom, varying scale", "phantom.varscale", [sorted(pair)], type_="REC_PAR"
        ),
    )
    for month, snr in (("2024-01", 211.4), ("2024-02", 208.9), ("2024-03", 209.7)):
        folder = await client.folder(root, "Reports", month[:4], month)
        await client.upload(
            {"snr.csv": f"month,snr\n{month},{snr}\n", "report.txt": f"QA {month}: passed.\n"}, folder=folder
        )

    names = await client.folder(root, "Names")
    for name in FOLDER_NAMES:
        await client.upload({"file.txt": f"in {name}\n"}, folder=await client.folder(names, name))
    await client.upload({name: f"{name}\n" for name in FILE_NAMES}, folder=names)
    await client.upload({"duplicate.txt": "another content under the same name\n"}, folder=names)
    for number, name in enumerate(EXAM_NAMES):
        uid = f"names.{number}"
        files = {"1/log.txt": f"first of {uid}\n", "2/log.txt": f"second of {uid}\n"}
        for series in ("1", "2"):  # two series of one name, each with two datasets of one name
            document = _import_json(
                name, uid, [["log.txt"], ["log.txt"]], series=series, has_patient=number % 2 == 1
            )
            await client.upload(files, folder=names, import_json=document)
    return names


async def _seed_my_agora(client: DemoClient, tree: DemoTree) -> None:
    root = (await client.my_agora())["root_folder"]
    await client.upload(_files(tree.file_set), folder=await client.folder(root, "DICOM CD"))
    await client.upload({"to do.txt": "- look at the QA reports\n", "empty.txt": b""}, folder=root)


def _files(directory: Path) -> dict[str, Content]:
    """Return the files below *directory* by target path, sorted."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in paths}


def _import_json(
    name: str,
    uid: str,
    datasets: Sequence[Sequence[str]],
    *,
    type_: str = "OTHER",
    series: str = "1",
    has_patient: bool = True,
) -> str:
    parameters: dict[str, Mapping[str, Any]] = {
        "Exam": {"UID": uid, "Name": name, "Date": "15.01.2024", "Time": "08:00:00", "DeviceName": "Ingenia"},
        "Series": {
            "UID": f"{uid}.{series}",
            "Name": name,
            "AcquisitionNumber": int(series),
            "Date": "15.01.2024",
            "Time": f"08:0{series}:00",
        },
    }
    if has_patient:
        parameters["Patient"] = {
            "UID": f"P-{uid}",
            "Name": name,
            "Gender": "O",
            "BirthDate": "",
            "Weight": None,
        }
    return json.dumps(
        {
            "Creator": "agorafs",
            "Version": "2.0.0",
            "Vendor": "Philips",
            "Type": "REL5",
            "Datasets": [{"Type": type_, "Files": [{"File": file} for file in files]} for files in datasets],
            "ImportParameter": parameters,
            "ParameterSets": [],
        }
    )
