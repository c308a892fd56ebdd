"""The import JSON: files written with it are added to the exam or series that it was made for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agorafs.client.records import Series
from agorafs.errors import NotFound, RemoteUnavailable
from agorafs.vfs.import_template import fill, filled_json, template, vendor_name

EXAM: dict[str, Any] = {
    "id": 7,
    "uid": "1.2.3",
    "name": "Brain MRI",
    "description": "left",
    "scanner_name": "Ingenia",
    "start_time": "2024-01-15T23:30:00Z",
}
PATIENT: dict[str, Any] = {
    "id": 2,
    "patient_id": "HOSP2",
    "name": "Daniel Smith",
    "sex": "m",
    "birth_date": "1980-12-05",
    "weight": 72,
}
SERIES = Series.from_json(
    {
        "id": 9,
        "exam": 7,
        "uid": "1.2.3.4",
        "name": "T1",
        "acquisition_number": 4,
        "time": "2024-01-15T23:35:01.5Z",
    }
)


def made(exam=None, *, series=None, patient=PATIENT, vendor="Philips"):
    return template(EXAM | (exam or {}), series=series, patient=patient, vendor=vendor)


def test_the_template_of_a_series_names_it_its_exam_and_the_patient():
    assert made(series=SERIES) == {
        "Creator": "agorafs",
        "Version": "2.0.0",
        "Vendor": "Philips",
        "Type": "REL5",
        "Datasets": [],
        "ImportParameter": {
            "Exam": {
                "UID": "1.2.3",
                "Name": "Brain MRI",
                "Description": "left",
                "DeviceName": "Ingenia",
                "Date": "15.01.2024",
                "Time": "23:30:00",
            },
            "Patient": {
                "UID": "HOSP2",
                "Name": "Daniel Smith",
                "Gender": "M",
                "BirthDate": "05.12.1980",
                "Weight": 72,
            },
            "Series": {
                "UID": "1.2.3.4",
                "Name": "T1",
                "AcquisitionNumber": 4,
                "Date": "15.01.2024",
                "Time": "23:35:01",
                "TypeLabel": "",
                "ReferenceScanUIDs": [],
            },
        },
        "ParameterSets": [],
    }


def test_the_template_of_an_exam_has_one_new_series_however_often_it_is_made():
    one, again, other = made(), made(), made({"uid": "1.2.4"})
    assert one == again
    series = one["ImportParameter"]["Series"]
    assert (series["Name"], series["Date"], series["Time"]) == ("New Series", "15.01.2024", "23:30:00")
    assert len(series["UID"]) == 36
    assert series["UID"] != other["ImportParameter"]["Series"]["UID"]


def test_times_are_written_as_the_archive_writes_them_and_a_series_in_the_zone_of_its_exam():
    parameters = made({"start_time": "2024-01-16T00:30:00.250+01:00"}, series=SERIES)["ImportParameter"]
    assert (parameters["Exam"]["Date"], parameters["Exam"]["Time"]) == ("16.01.2024", "00:30:00")
    assert (parameters["Series"]["Date"], parameters["Series"]["Time"]) == ("16.01.2024", "00:35:01")
    parameters = made({"start_time": "2024-01-15T18:00:00-0530"}, series=SERIES)["ImportParameter"]
    assert (parameters["Series"]["Date"], parameters["Series"]["Time"]) == ("15.01.2024", "18:05:01")


@pytest.mark.parametrize("time", [None, "", "soon", "2024-02-31T08:00:00Z", 5])
def test_a_time_that_is_not_known_is_written_as_the_connector_does(time):
    exam = made({"start_time": time})["ImportParameter"]["Exam"]
    assert (exam["Date"], exam["Time"]) == ("01.01.1900", "00:00:00")


def test_a_date_alone_is_midnight():
    exam = made({"start_time": "2024-01-15"})["ImportParameter"]["Exam"]
    assert (exam["Date"], exam["Time"]) == ("15.01.2024", "00:00:00")


def test_what_is_not_known_of_a_patient_is_not_made_up():
    patient = made(patient={"id": 2, "patient_id": "X", "name": "Y", "sex": None, "weight": None})
    assert patient["ImportParameter"]["Patient"] == {
        "UID": "X",
        "Name": "Y",
        "Gender": "O",
        "BirthDate": "01.01.1900",
        "Weight": None,
    }


def test_an_exam_without_a_patient_gets_the_connectors_and_always_the_same():
    one, again = (made(patient=None)["ImportParameter"]["Patient"] for _ in range(2))
    assert one == again
    assert len(one.pop("UID")) == 36
    assert one == {"Name": "", "Gender": "O", "BirthDate": "01.01.1900", "Weight": 70}


@pytest.mark.parametrize(
    ("vendor", "type_"),
    [("Philips", "REL5"), ("Siemens", "RAW_VD"), ("Bruker", "Bruker"), ("GE", "ISMRMRD"), ("Unknown", "")],
)
def test_the_type_is_the_usual_one_of_the_vendor(vendor, type_):
    assert (made(vendor=vendor)["Vendor"], made(vendor=vendor)["Type"]) == (vendor, type_)


def test_a_vendor_that_the_form_does_not_know_is_unknown():
    assert (made(vendor="Hitachi")["Vendor"], made(vendor="")["Type"]) == ("Unknown", "")


def test_a_vendor_is_named_or_looked_up():
    def never():
        raise AssertionError("nobody asked for the list")

    def missing():
        raise NotFound("no such list")

    def away():
        raise RemoteUnavailable("away")

    assert vendor_name({"id": 2, "name": "Philips"}, never) == "Philips"
    assert vendor_name(None, never) == "Unknown"
    assert vendor_name(4, lambda: {4: "Siemens"}) == "Siemens"
    assert vendor_name(5, lambda: {4: "Siemens"}) == "Unknown"
    assert vendor_name(4, missing) == "Unknown"
    with pytest.raises(RemoteUnavailable):
        vendor_name(4, away)


def datasets(*names):
    return [
        (dataset["Type"], [file["File"] for file in dataset["Files"]])
        for dataset in fill(made(), names)["Datasets"]
    ]


def test_files_that_belong_together_become_one_dataset_and_others_one_each():
    assert datasets("b.raw", "b.lab", "a.RAW", "a.LAB", "a.sin", "x.txt", "x", "c.par") == [
        ("RAW_LAB", ["a.LAB", "a.RAW"]),
        ("SINFILE", ["a.sin"]),
        ("RAW_LAB", ["b.lab", "b.raw"]),
        ("REC_PAR", ["c.par"]),
        ("OTHER", ["x"]),
        ("OTHER", ["x.txt"]),
    ]


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.par", "REC_PAR"), ("a.rec", "REC_PAR"), ("a.sdat", "PHILIPS_SPECTRO"), ("a.SPAR", "PHILIPS_SPECTRO"),
        ("a.sin", "SINFILE"), ("a.dcm", "DICOM_IMAGE"), ("a.dat", "TWIX"), ("a.pro", "SIEMENS_PRO"),
        ("a.h5", "ISMRMRD"), ("a.nii", "NIFTI1"), ("a.nii.gz", "NIFTI1"), ("a.NII.GZ", "NIFTI1"),
        ("a.gz", "OTHER"), ("a", "OTHER"), (".raw", "OTHER"), ("nii.gz", "OTHER"),
    ],
)  # fmt: skip
def test_the_extension_gives_the_type_of_a_dataset(name, type_):
    assert datasets(name) == [(type_, [name])]


def test_two_volumes_of_one_name_are_two_datasets():
    assert datasets("a.nii", "a.nii.gz") == [("NIFTI1", ["a.nii"]), ("NIFTI1", ["a.nii.gz"])]


def test_files_are_listed_without_directory_and_pairs_keep_to_theirs():
    assert datasets("b/x.rec", "a/x.rec", "a/x.par", "b/x.par") == [
        ("REC_PAR", ["x.par", "x.rec"]),
        ("REC_PAR", ["x.par", "x.rec"]),
    ]


def test_a_dicom_dataset_makes_it_a_dicom_import():
    assert fill(made(), ["a.dcm", "b.txt"])["Type"] == "DICOM"
    assert fill(made(), ["b.txt"])["Type"] == "REL5"


def test_filling_leaves_the_template_as_it_was():
    one = made()
    filled = fill(one, ["a.raw"])
    assert one["Datasets"] == []
    assert {**filled, "Datasets": []} == one
    assert filled["Datasets"][0]["ParameterSetID"] is None
    assert filled["Datasets"][0]["Files"] == [{"File": "a.raw", "ParameterSetID": None}]


def test_an_import_json_without_datasets_is_filled_and_any_other_left_to_the_archive():
    content = json.dumps(made()).encode()
    filled = filled_json(content, ["d/a.nii"])
    assert filled is not None
    assert json.loads(filled) == fill(made(), ["d/a.nii"])
    assert filled_json(filled, ["other.nii"]) is None
    for content in (b"", b"{", b"[]", b"\xff", b'"text"'):
        assert filled_json(content, ["a"]) is None
