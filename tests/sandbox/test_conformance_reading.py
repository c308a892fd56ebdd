"""The vendor's connector 1.8.0, unmodified, logs in, browses and downloads.

Each test is named after the rows it shows of the checklist of the connector's features: 1-61 are those of the README
its users know, 67-114 those that only its code shows, in the order in which README and code name them. Where the
connector is broken or a documented call does not exist, the same is done in the way that works.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import gtagora
import pytest
from gtagora.exception import AgoraException
from gtagora.models.trash import Trash

from tests.sandbox.conftest import make_study


def small_files(count, prefix="file"):
    return {f"{prefix}{number}.txt": f"content {prefix} {number}".encode() for number in range(count)}


# -- connecting --------------------------------------------------------------------------------------


def test_row_1_user_and_password_connect(sandbox):
    assert (
        gtagora.Agora.create(sandbox.url, user="admin", password="admin").get_current_user().username
        == "admin"
    )


def test_row_1_a_wrong_password_does_not_connect(sandbox):
    with pytest.raises(Exception, match="Unable to log in"):
        gtagora.Agora.create(sandbox.url, user="admin", password="wrong")


def test_row_2_an_api_key_connects_and_a_wrong_one_does_not(sandbox):
    assert (
        gtagora.Agora.create(sandbox.url, api_key=sandbox.users["observer"]).get_current_user().username
        == "observer"
    )
    with pytest.raises(AgoraException):
        gtagora.Agora.create(sandbox.url, api_key="wrong")


def test_row_67_a_session_token_connects(sandbox):
    token = sandbox.api(
        "POST", "v1/rest-auth/login/", data={"username": "scientist", "password": "scientist"}
    ).json()
    assert gtagora.Agora.create(sandbox.url, token=token["key"]).get_current_user().username == "scientist"


def test_rows_68_and_69_ping_and_version(agora):
    agora.ping()
    version = agora.get_version()
    version.needs("7.14.0", "everything")
    with pytest.raises(AgoraException):
        version.needs("99.0.0", "the future")


def test_row_70_the_api_key_is_read_and_created_when_there_is_none(sandbox, agora):
    assert agora.get_api_key()["key"] == sandbox.api_key
    fresh = agora.create_user("row-70", "secret")[0]
    assert fresh.username == "row-70"
    connected = gtagora.Agora.create(sandbox.url, user="row-70", password="secret")
    key = connected.get_api_key(create=True)["key"]
    assert gtagora.Agora.create(sandbox.url, api_key=key).get_current_user().username == "row-70"


def test_rows_58_59_60_112_113_users_groups_and_vendors(agora):
    user, existed = agora.create_user(
        "row-112", "secret", email="a@example.org", first_name="A", last_name="B"
    )
    assert not existed
    assert agora.create_user("row-112", "secret")[1]
    assert user.id in [other.id for other in agora.get_users()]
    assert agora.get_current_user().username == "admin"
    assert [group.name for group in agora.get_groups()] == ["users"]
    assert [vendor.name for vendor in agora.get_vendors()] == [
        "Unknown",
        "Philips",
        "Bruker",
        "Siemens",
        "GE",
    ]


# -- projects ----------------------------------------------------------------------------------------


def test_rows_3_4_5_6_61_projects_and_my_agora(agora, project, capsys):
    found = {listed.id: listed.display_name for listed in agora.get_projects()}
    assert found[project.id] == project.name
    mine = agora.get_myagora()
    assert mine.is_myagora and mine.display_name == "My Agora" and found[mine.id] == "My Agora"
    assert agora.get_project(project.id).get_root_folder().id == project.root
    agora.get_project(project.id).display()
    assert "root_folder" in capsys.readouterr().out


def test_rows_71_73_projects_are_created_once_and_renamed(agora):
    created = agora.create_project("row 71", "a description")
    assert (created.name, created.description) == ("row 71", "a description")
    assert agora.get_or_create_project("row 71").id == created.id
    created.set_name("row 73")
    assert agora.get_project(created.id).name == "row 73"
    with pytest.raises(AgoraException):
        agora.get_myagora().set_name("not mine to rename")


def test_rows_77_and_72_roles_and_members(sandbox, agora, project):
    theirs = agora.get_project(project.id)
    assert [(role.id, role.name) for role in theirs.get_roles()] == [
        (1, "manager"),
        (2, "scientist"),
        (3, "user"),
        (4, "observer"),
    ]
    observer = next(user.id for user in agora.get_users() if user.username == "observer")
    theirs.add_member(observer, 4)
    assert {"user": observer, "role": 4} in [
        {"user": member["user"], "role": member["role"]}
        for member in agora.get_project(project.id).memberships
    ]
    copy = agora.create_project("row 72")
    copy.copy_settings_from(agora.get_project(project.id), copy_tasks=False, copy_hosts=False)
    assert observer in [member["user"] for member in agora.get_project(copy.id).memberships]


def test_rows_7_21_22_exams_with_filters(agora, project, study, sandbox):
    other = make_study(sandbox, project, StudyDescription="Spine MRI")
    theirs = agora.get_project(project.id)
    assert [exam.id for exam in theirs.get_exams()] == [study.exam, other.exam]
    assert [exam.id for exam in theirs.get_exams(filters={"name": agora.get_exam(other.exam).name})] == [
        other.exam
    ]
    assert {study.exam, other.exam} <= {exam.id for exam in agora.get_exam_list()}
    assert agora.get_exam(study.exam).uid == study.exam_uid


def test_row_81_exam_and_series_by_uid(agora, project, study):
    assert agora.get_exam_by_uid(project.id, study.exam_uid).id == study.exam
    assert agora.get_series_by_uid(project.id, study.series_uid).id == study.series
    assert not agora.get_exam_by_uid(project.id, "1.2.3.not.there")


def test_rows_79_and_84_trees(agora, project, study, sandbox):
    sandbox.upload(small_files(2), folder=project.root)
    tree = agora.get_project(project.id).get_study_tree()
    assert [(exam.id, [series.id for series in exam.series]) for exam in tree] == [
        (study.exam, [study.series])
    ]
    assert [dataset.id for dataset in agora.get_exam(study.exam).get_tree().series[0].datasets] == [
        study.dataset
    ]
    assert [dataset.id for dataset in agora.get_series(study.series).get_tree().datasets] == [study.dataset]
    agora.get_exam(study.exam).link_to_folder(project.root)
    root = agora.get_folder(project.root)
    root.link_to_folder(root.create_folder("child"))  # a cycle: the tree ends all the same
    items = root.get_tree().items
    assert sorted(item.name for item in items) == sorted(
        ["file0.txt", "file1.txt", "child", agora.get_exam(study.exam).name]
    )
    child = next(item for item in items if item.name == "child")
    assert [(item.name, item.items) for item in child.items] == [(project.name, [])]


# -- folders -----------------------------------------------------------------------------------------


def test_rows_9_to_16_and_20_folders(agora, project):
    root = agora.get_folder(project.root)
    made = root.create_folder("results")
    with pytest.raises(AgoraException):
        root.create_folder("results")
    deep = root.get_or_create("results/2024/january")
    assert [folder.name for folder in root.get_folders()] == ["results"]
    assert [folder.name for folder in root.get_folders(recursive=True)] == ["results", "2024", "january"]
    assert root.get_folder("results").id == made.id
    assert root.get_folder("results/2024/january").id == deep.id
    assert (
        deep.get_folder("..").name == "2024"
    )  # not up to the root: the connector takes its index 0 for "none"
    assert [crumb.name for crumb in deep.get_breadcrumb()] == [project.name, "results", "2024", "january"]
    assert [item.content_type for item in root.get_items()] == ["folder"]
    made.delete()
    assert root.get_items() == []


def test_row_83_what_a_folder_knows(agora, project, study):
    root = agora.get_folder(project.root)
    child = root.create_folder("child")
    exam, series = agora.get_exam(study.exam), agora.get_series(study.series)
    exam.link_to_folder(child)
    series.link_to_folder(child)
    assert root.is_folder("child") and not root.is_folder("nothing")
    assert child.is_subfolder_of(root) and not root.is_subfolder_of(child)
    assert child.path() == f"{project.name}/child"
    assert child.parent().id == root.id and root.parent() is None
    assert child.get_exam(exam.name).id == exam.id
    assert child.get_serie(series.name).id == series.id
    assert [found.id for found in child.get_series()] == [series.id]


def test_row_80_root_folder_and_folder_path(agora):
    folder = agora.get_or_create_folder(Path("row-80/inner"))
    assert folder.path().endswith("row-80/inner")
    assert agora.get_root_folder().id == agora.get_myagora().root_folder


def test_rows_17_18_19_28_objects_of_a_folder(agora, project, study, sandbox):
    sandbox.upload(small_files(2), folder=project.root)
    root = agora.get_folder(project.root)
    agora.get_exam(study.exam).link_to_folder(root)
    assert [exam.id for exam in root.get_exams()] == [study.exam]
    assert sorted(dataset.name for dataset in root.get_datasets()) == ["file0.txt", "file1.txt"]
    files = root.get_dataset("file1.txt").get_datafiles()
    assert [(file.original_filename, file.sha1) for file in files] == [
        ("file1.txt", hashlib.sha1(b"content file 1").hexdigest())
    ]


def test_rows_23_24_86_87_85_links(agora, project, study, sandbox):
    root = agora.get_folder(project.root)
    folder = root.create_folder("links")
    exam, series, dataset = (
        agora.get_exam(study.exam),
        agora.get_series(study.series),
        agora.get_dataset(study.dataset),
    )
    for linked in (exam, series, dataset, root.create_folder("other")):
        assert linked.link_to_folder(folder).is_link
    items = folder.get_items()
    assert [(item.content_type, item.is_link) for item in items] == [
        ("exam", True),
        ("serie", True),
        ("dataset", True),
        ("folder", True),
    ]
    for linked in (exam, series, dataset):
        assert [found.id for found in linked.get_folders()] == [folder.id]
        assert linked.is_in_folder(linked, root).id == folder.id
    items[0].delete()
    assert agora.get_exam(study.exam).id == study.exam
    folder.delete_item([item.id for item in items[1:]])
    assert folder.get_items() == []
    assert agora.get_dataset(study.dataset).id == study.dataset
    assert root.get_folder("other") is not None


# -- studies -----------------------------------------------------------------------------------------


def test_rows_25_26_27_31_series_and_datasets(agora, study):
    exam = agora.get_exam(study.exam)
    assert [series.id for series in exam.get_series()] == [study.series]
    assert exam.get_series(filters={"name": "nothing"}) == []
    series = agora.get_series(study.series)
    assert [dataset.id for dataset in series.get_datasets(filters={"type": 300})] == [study.dataset]
    assert series.get_datasets(filters={"type": 100}) == []
    assert [dataset.id for dataset in exam.get_datasets()] == [study.dataset]
    assert len(agora.get_dataset(study.dataset).get_datafiles()) == 2


def test_row_29_an_exam_is_locked_and_unlocked(agora, study):
    exam = agora.get_exam(study.exam)
    exam.lock()
    assert agora.get_exam(study.exam).locked
    with pytest.raises(AgoraException):
        exam.set_name("not while it is locked")
    exam.unlock()
    assert not agora.get_exam(study.exam).locked


def test_row_88_an_exam_is_renamed(agora, study):
    agora.get_exam(study.exam).set_name("a new name")
    assert agora.get_exam(study.exam).name == "a new name"


def test_row_89_files_attached_to_the_exam_itself(agora, study, sandbox):
    """``get_files`` lists them; v2 gives them without datafiles, so those are fetched plainly ."""
    sandbox.upload({"notes/report.pdf": b"%PDF-1.4 report"}, exam=study.exam)
    (attached,) = agora.get_exam(study.exam).get_files()
    assert (attached.name, attached.exam, attached.get_datafiles()) == ("report.pdf", study.exam, [])
    (file,) = sandbox.get(f"v2/dataset/{attached.id}/datafiles/")["results"]
    assert file["original_filename"] == "notes/report.pdf"


def test_rows_30_103_patients(agora, study):
    assert study.patient in [patient.id for patient in agora.get_patients()]
    patient = agora.get_patient(study.patient)
    assert (patient.patient_id, patient.sex) == (study.patient_id, "f")
    assert [exam.id for exam in patient.get_exams()] == [study.exam]
    assert [series.id for series in patient.get_series()] == [study.series]
    assert [dataset.id for dataset in patient.get_datasets()] == [study.dataset]


def test_row_82_series_list_and_search(agora, study):
    assert study.series in [series.id for series in agora.get_series_list()]
    (parameters,) = agora.get_dataset(study.dataset).get_parametersets()
    numbers = [
        p for p in parameters.get_parameters() if isinstance(p.Value, (int, float)) and p.Name.isidentifier()
    ]
    assert numbers, "the DICOM header has numbers"
    name, value = numbers[0].Name, numbers[0].Value
    assert study.series in [
        series.id
        for series in agora.search_series(
            f"parameter.{name} > {value - 1} AND parameter.{name} < {value + 1}"
        )
    ]
    assert study.series not in [series.id for series in agora.search_series(f"parameter.{name} > {value}")]
    with pytest.raises(AgoraException, match="Cannot understand"):
        agora.search_series("a > 0 AND b")


def test_rows_56_57_98_99_parameter_sets(agora, study):
    """Row 57's ``search_parameter`` is gone; ``get_parameters(filter=)`` does the same."""
    dataset = agora.get_dataset(study.dataset)
    (parameter_set,) = dataset.get_parametersets()
    assert agora.get_parameterset(parameter_set.id).read_only
    names = [parameter.Name for parameter in parameter_set.get_parameters()]
    assert dataset.get_parameter(names[0]).Name == names[0]
    found = agora.get_dataset(study.dataset).get_parameters(filter=names[0])
    assert names[0] in [parameter.Name for parameter in found]
    assert agora.get_series(study.series).get_parameter(names[0]).Name == names[0]
    for described in (agora.get_exam(study.exam), agora.get_patient(study.patient)):
        assert described.get_parametersets() == []


def test_rows_33_35_78_96_what_nobody_tagged_or_rated_has_empty_lists(agora, project, study):
    """What they look like when there are some is in test_tags_and_parameters.py."""
    assert project.id not in [tag.project for tag in agora.get_tags()]
    assert agora.get_project(project.id).get_tags() == []
    described = (
        agora.get_exam(study.exam),
        agora.get_series(study.series),
        agora.get_dataset(study.dataset),
        agora.get_folder(project.root),
        agora.get_patient(study.patient),
    )
    assert [thing.get_tags() for thing in described] == [[]] * 5
    assert [thing.get_rating() for thing in described] == [None] * 5


def test_row_101_image_info(agora, study):
    assert agora.get_dataset(study.dataset).get_info().number_of_files == 2


def test_row_93_a_dataset_is_copied_and_moved_to_a_folder(agora, project, sandbox):
    sandbox.upload(small_files(1), folder=project.root)
    root = agora.get_folder(project.root)
    target = root.create_folder("target")
    original = root.get_dataset("file0.txt")
    copy = original.copy_to_folder(target)
    assert copy.id != original.id
    assert agora.get_dataset(copy.id).get_datafiles()[0].sha1 == original.get_datafiles()[0].sha1
    moved = copy.move_to_folder(root)
    assert moved.id == copy.id
    assert target.get_items() == []
    assert [dataset.id for dataset in root.get_datasets()] == [original.id, copy.id]


# -- deleting ----------------------------------------------------------------------------------------


def test_rows_94_8_111_deleting_and_the_trash(agora, project, study, sandbox):
    theirs = agora.get_project(project.id)
    agora.get_exam(study.exam).link_to_folder(project.root)
    agora.get_dataset(study.dataset).delete()
    agora.get_series(study.series).delete()
    agora.get_exam(study.exam).delete()
    assert agora.get_folder(project.root).get_items() == []
    with pytest.raises(AgoraException):
        agora.get_exam(study.exam)
    entries = Trash(http_client=agora.http_client).get_items(project.id)
    assert [entry.content_type for entry in entries] == ["dataset", "serie", "exam"]
    theirs.empty_trash()
    assert Trash(http_client=agora.http_client).get_items(project.id) == []


def test_row_94_a_patient_is_deleted_with_the_exams(agora, study):
    agora.get_patient(study.patient).delete()
    with pytest.raises(AgoraException):
        agora.get_exam(study.exam)


# -- downloading -------------------------------------------------------------------------------------


def test_rows_38_114_a_dataset_is_downloaded_once(agora, study, sandbox, tmp_path):
    dataset = agora.get_dataset(study.dataset)
    paths = dataset.download(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["DICOM/IM_0001", "DICOM/IM_0002"]
    for path, file in zip(paths, dataset.get_datafiles(), strict=True):
        assert hashlib.sha1(path.read_bytes()).hexdigest() == file.sha1
    sandbox.reset_requests()
    dataset.download(tmp_path)
    assert sandbox.request_count() == 0


def test_rows_37_38_104_folders_exams_and_series_are_downloaded(agora, project, study, sandbox, tmp_path):
    sandbox.upload({"a/b.txt": b"loose"}, folder=project.root)
    root = agora.get_folder(project.root)
    exam, series = agora.get_exam(study.exam), agora.get_series(study.series)
    exam.link_to_folder(root.get_folder("a"))
    root.download_datasets(tmp_path, recursive=True)
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"loose"
    root.download_exams(tmp_path, recursive=True)
    assert (tmp_path / "a" / exam.name / series.name / "DICOM" / "IM_0002").is_file()
    series.download(tmp_path / "series")
    assert (tmp_path / "series" / "DICOM" / "IM_0001").is_file()


def test_row_32_exams_and_series_without_relations(agora, study):
    """What relations look like when there are some is in test_bulk.py."""
    assert agora.get_exam(study.exam).relations() == []
    assert agora.get_series(study.series).relations() == []
