"""Server, people, projects, images and workbooks as files of a real mount, compared with what the connector says."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import gtagora
import nibabel
import numpy
import pytest
from gtagora.models.workbook import Workbook

from agorafs import __version__
from tests.support.connector import connected
from tests.support.mount import Mount

SECRETS = ("api_key", "token", "password")


@pytest.fixture(scope="module")
def agora(demo):
    with connected(demo) as agora:
        yield agora


def read(path) -> Any:
    """``cat path``, as JSON; what ``stat`` says of its size must be true."""
    content = path.read_bytes()
    assert path.stat().st_size == len(content)
    return json.loads(content)


@pytest.mark.feature(58, how="`/.agora/me.json`")
def test_the_current_user(agora, demo_mount):
    me = read(demo_mount.path / ".agora/me.json")
    theirs = agora.get_current_user()
    assert (me["id"], me["username"]) == (theirs.id, theirs.username)


@pytest.mark.feature(59, how="`/.agora/users.json`")
def test_all_users(agora, demo_mount):
    users = read(demo_mount.path / ".agora/users.json")
    assert [(user["id"], user["username"]) for user in users] == [
        (user.id, user.username) for user in agora.get_users()
    ]
    assert len(users) > 1


@pytest.mark.feature(60, how="`/.agora/groups.json`")
def test_all_groups(agora, demo_mount):
    groups = read(demo_mount.path / ".agora/groups.json")
    assert [(group["id"], group["name"]) for group in groups] == [
        (group.id, group.name) for group in agora.get_groups()
    ]


@pytest.mark.feature(113, how="`/.agora/vendors.json`")
def test_makers_of_scanners(agora, demo_mount):
    vendors = read(demo_mount.path / ".agora/vendors.json")
    assert {vendor["id"]: vendor["name"] for vendor in vendors} == {
        vendor.id: vendor.name for vendor in agora.get_vendors()
    }


def test_the_version_is_the_connectors(agora, demo_mount):
    version = read(demo_mount.path / ".agora/version.json")
    assert version["version"] == agora.get_version().version
    assert "server" in version


def test_no_secret_is_in_any_file(demo, demo_mount):
    for name in ("me", "users", "groups", "vendors", "version", "status"):
        content = (demo_mount.path / f".agora/{name}.json").read_text()
        assert not [secret for secret in SECRETS if f'"{secret}"' in content]
        assert not [key for key in demo.users.values() if key in content]


def test_every_directory_has_what_is_said_of_it_unlisted_of_true_size_and_without_a_key(demo, demo_mount):
    """Views, tags, searches and directories of datasets too; of each file there, ``stat`` says what reading gives."""
    root, project = demo_mount.path, demo_mount.path / "projects" / "Neuro Study"
    series = project / "exams" / "Brain, volunteer" / "Survey"
    places = [
        *(root, root / "projects", root / "patients", root / "tags", root / "tasks", root / "search"),
        *(root / "tags" / "good", root / "search" / "brain", next((root / "patients").iterdir())),
        *(project, *project.iterdir(), project / "search", project / "search" / "brain"),
        *(project / "tags" / "good", project / "tasks" / "Checksum", next((project / "patients").iterdir())),
        *(series.parent, series, series / "DICOM dataset", series / "DICOM dataset" / "DICOM"),
        *(project / "folders" / "Derived", project / "folders" / "Derived" / "NIfTI"),
    ]
    read_bytes = 0
    for place in places:
        assert ".agora" not in [path.name for path in place.iterdir()]
        beside = place / ".agora"
        assert {"control", "info.json", "path", "entries"} <= {path.name for path in beside.iterdir()}
        assert (beside / "path").read_text() == f"/{place.relative_to(root)}\n".replace("/.\n", "/\n")
        for file in beside.rglob("*"):  # follows no link
            if file.is_symlink():
                assert file.exists(), file
            elif file.is_file() and file.name not in ("control", "status.json", "metrics"):
                size = file.stat().st_size
                content = file.read_bytes()
                assert size == len(content), file
                assert not [key for key in demo.users.values() if key.encode() in content], file
                read_bytes += size
                if file.suffix == ".json":
                    json.loads(content)
    assert read_bytes > 100_000


def test_the_status_is_that_of_the_command_and_metrics_are_numbers(demo_mount):
    status = json.loads((demo_mount.path / ".agora/status.json").read_bytes())
    assert (status["agorafs"], status["url"]) == (__version__, demo_mount.url)
    assert status["uploads"]["files"] == 0
    metrics = (demo_mount.path / ".agora/metrics").read_text()
    assert "\nagorafs_server_up 1\n" in metrics
    for program in (["cat"], ["head", "-c", "1000000"], ["dd", "status=none", "bs=10", "if=/dev/stdin"]):
        with (demo_mount.path / ".agora/metrics").open("rb") as stream:
            done = subprocess.run(program, stdin=stream, capture_output=True, timeout=30, check=True)
        assert done.stdout.endswith(b"\n")


def test_members_roles_and_hosts_of_a_project(demo, agora, demo_mount):
    names = {project.id: project.name for project in agora.get_projects() if not project.is_myagora}
    assert names
    for number, name in names.items():
        project = demo_mount.path / "projects" / name
        roles = {role["id"]: role["name"] for role in read(project / ".agora/roles.json")}
        assert roles == {role.id: role.name for role in agora.get_project(number).get_roles()}
        theirs = demo.get(f"v2/project/{number}/")["memberships"]
        members = read(project / ".agora/members.json")
        assert [(one["user"], one["role"]) for one in members] == [
            (one["user"], one["role"]) for one in theirs
        ]
        assert all(one["username"] and one["role_name"] == roles[one["role"]] for one in members)
        hosts = read(project / ".agora/hosts.json")
        assert [host["id"] for host in hosts] == [host.id for host in agora.get_project(number).get_hosts()]


# -- datasets ------------------------------------------------------------------------------------------------


def workbooks_of(server, dataset: int) -> list[Any]:
    answer = server.get(f"v2/dataset/{dataset}/workbook/")
    found: list[Any] = answer["results"] if isinstance(answer, dict) else answer
    return found


def beside(mount: Mount, dataset: int) -> Path:
    """Return what is beside a dataset: in its own directory, or in the one that it is a file of."""
    path = (mount.path / ".agora/by-id/dataset" / str(dataset)).resolve()
    return path / ".agora" if path.is_dir() else path.parent / ".agora/entries" / path.name


class WithWorkbook:
    """The demo's dataset that has a workbook: ``path`` is what is beside it, ``id`` its number."""

    def __init__(self, server, mount: Mount) -> None:
        datasets = {datafile["dataset"] for datafile in server.datafiles()}
        (self.id,) = (dataset for dataset in datasets if workbooks_of(server, dataset))
        self.path = beside(mount, self.id)

    def theirs(self, agora: gtagora.Agora) -> Workbook:
        (workbook,) = agora.get_dataset(self.id).get_workbooks()
        return workbook

    def directory(self, workbook: Workbook):
        return self.path / "workbooks" / workbook.name


def decoded(workbook: Workbook) -> dict[str, Any]:
    return {
        name: numpy.array(mask.data, dtype=numpy.uint8).reshape(mask.shape)
        for name, mask in workbook.decode_masks().items()
    }


@pytest.mark.feature(101, how="`.agora/entries/NAME/image.json`, `DATASET/.agora/image.json`")
def test_what_the_server_knows_of_images(demo, demo_mount):
    one = WithWorkbook(demo, demo_mount)
    assert read(one.path / "image.json") == demo.get(f"v1/dataset/{one.id}/image_info/")


@pytest.mark.feature(102, how="`.agora/entries/NAME/workbooks/`, which makes none")
@pytest.mark.feature(63, how="`workbooks/NAME/workbook.json`")
def test_workbooks_are_those_of_the_connector_and_looking_makes_none(demo, agora, demo_mount):
    one = WithWorkbook(demo, demo_mount)
    theirs = one.theirs(agora)
    assert [path.name for path in (one.path / "workbooks").iterdir()] == [theirs.name]
    about = read(one.directory(theirs) / "workbook.json")
    assert about == demo.get(f"v2/workbook/{theirs.id}/")
    bare = min(one["dataset"] for one in demo.datafiles() if not workbooks_of(demo, one["dataset"]))
    assert list((beside(demo_mount, bare) / "workbooks").iterdir()) == []
    assert workbooks_of(demo, bare) == []


@pytest.mark.feature(64, how="`workbooks/NAME/masks/MASK.npy` and `.nii`")
def test_masks_are_arrays_that_numpy_and_nibabel_read(demo, agora, demo_mount):
    one = WithWorkbook(demo, demo_mount)
    theirs = one.theirs(agora)
    masks = decoded(theirs)
    assert masks
    for name, array in masks.items():
        assert array.any()
        ours = numpy.load(one.directory(theirs) / f"masks/{name}.npy")
        numpy.testing.assert_array_equal(ours, array)
        image = nibabel.load(one.directory(theirs) / f"masks/{name}.nii")
        numpy.testing.assert_array_equal(numpy.asarray(image.dataobj).reshape(array.shape), array)


@pytest.mark.feature(65, how="`effective_buttons` in `workbooks/NAME/contours.json`")
def test_the_buttons_are_those_of_the_connector(demo, agora, demo_mount):
    one = WithWorkbook(demo, demo_mount)
    theirs = one.theirs(agora)
    contours = read(one.directory(theirs) / "contours.json")
    assert contours["effective_buttons"] == theirs.resolve_contour_buttons()


@pytest.mark.feature(66, how="write to `masks/MASK.npy` and `workbook.json`")
def test_masks_and_contours_are_written_and_the_connector_sees_them(private_demo, mount):
    one = WithWorkbook(private_demo, mount(private_demo))
    with connected(private_demo) as agora:
        theirs = one.theirs(agora)
        directory = one.directory(theirs)
        name = min(decoded(theirs))
        written = decoded(theirs)[name]
        written[:2] = 3
        numpy.save(directory / f"masks/{name}.npy", written)
        numpy.save(directory / "masks/another.npy", numpy.asfortranarray(written > 0))
        about = json.loads((directory / "workbook.json").read_bytes())
        about["contour"]["contourGroups"] = [{"name": "from the mount", "contours": []}]
        (directory / "workbook.json").write_text(json.dumps(about))
        again = one.theirs(agora)
        numpy.testing.assert_array_equal(decoded(again)[name], written)
        numpy.testing.assert_array_equal(decoded(again)["another"], written > 0)
        assert "from the mount" in [group["name"] for group in again.contour["contourGroups"]]
        kept = {group["name"] for group in theirs.contour["contourGroups"]}
        assert kept <= {group["name"] for group in again.contour["contourGroups"]}
    numpy.testing.assert_array_equal(numpy.load(directory / f"masks/{name}.npy"), written)


def test_what_is_no_mask_is_refused_at_close_and_changes_nothing(private_demo, mount):
    one = WithWorkbook(private_demo, mount(private_demo))
    with connected(private_demo) as agora:
        before = one.theirs(agora)
        directory = one.directory(before)
        mask = min(path for path in (directory / "masks").iterdir() if path.suffix == ".npy")
        stream = mask.open("wb", buffering=0)
        stream.write(b"nonsense")
        with pytest.raises(OSError, match="Invalid argument") as refused:
            stream.close()
        assert refused.value.errno == errno.EINVAL
        with pytest.raises(PermissionError):
            (directory / f"masks/{mask.stem}.nii").write_bytes(b"x")
        assert one.theirs(agora).mask == before.mask
