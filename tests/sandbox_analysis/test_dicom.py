"""DICOM files go where their headers say, whatever they are called."""

from __future__ import annotations

import json

import pydicom
import pytest

from agorafs.sandbox.analysis import analyse
from agorafs.sandbox.analysis.dicom import readable_name
from agorafs.sandbox.plan import PlannedPatient
from tests.sandbox_analysis.support import NIBABEL_DATA, PYDICOM_DATA, placed_targets, uploads_of


def test_two_slices_of_one_series_become_one_dataset_in_the_order_of_their_instance_numbers(tmp_path):
    """Patient, exam, series and scanner are those of the header; the order of the upload does not matter."""
    uploads = uploads_of(
        tmp_path, {"DICOM/IM_0001": NIBABEL_DATA / "1.dcm", "DICOM/IM_0002": NIBABEL_DATA / "0.dcm"}
    )
    plan = analyse(uploads)

    assert plan.loose == () and plan.errors == ()
    (exam,) = plan.exams
    assert exam.uid == "1.3.12.2.1107.5.2.32.35119.30000010011408520750000000022"
    assert (exam.name, exam.start_time) == ("CBU^Neuroimaging", "2010-01-14T12:13:14Z")
    assert (exam.scanner_name, exam.vendor) == ("TrioTim", "Siemens")
    assert exam.patient == PlannedPatient("1234", "dft patient name", "1980-01-02", "f", None)
    (series,) = exam.series
    assert series.uid == "1.3.12.2.1107.5.2.32.35119.2010011420292594820699190.0.0.0"
    assert (series.name, series.acquisition_number) == ("CBU_DTI_64D_1A", 12)
    (dataset,) = series.datasets
    assert (dataset.name, dataset.type, dataset.mime_type) == ("DICOM dataset", 300, "application/dicom")
    # Instance 1 was uploaded under the second name; both names keep their directory.
    assert [file.original_filename for file in dataset.files] == ["DICOM/IM_0002", "DICOM/IM_0001"]


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "image_dfl.dcm",
        "badVR.dcm",
        "MR_truncated.dcm",
        "rtplan.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
    ],
)
def test_a_dicom_object_of_any_kind_and_encoding_is_recognised_without_an_extension(tmp_path, name):
    """With and without preamble, either byte order, compressed, image or not, pixel data cut off."""
    plan = analyse(uploads_of(tmp_path, {"scan": PYDICOM_DATA / name}))

    header = pydicom.dcmread(PYDICOM_DATA / name, stop_before_pixels=True, force=True)
    (exam,) = plan.exams
    assert exam.uid == header.StudyInstanceUID
    assert [series.uid for series in exam.series] == [header.SeriesInstanceUID]
    assert exam.series[0].datasets[0].type == 300


def test_a_report_without_patient_id_belongs_to_the_patient_of_that_name(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"report": PYDICOM_DATA / "test-SR.dcm"}))
    patient = plan.exams[0].patient
    assert patient is not None
    assert (patient.patient_id, patient.name) == ("S R Test", "S R Test")


def test_an_exam_without_patient_name_and_id_has_no_patient(tmp_path):
    header = pydicom.dcmread(PYDICOM_DATA / "MR_small.dcm")
    header.PatientName, header.PatientID = "", ""
    header.save_as(tmp_path / "anonymous")
    plan = analyse(uploads_of(tmp_path, {"anonymous": tmp_path / "anonymous"}))
    assert [exam.patient for exam in plan.exams] == [None]


def test_a_dicomdir_is_a_loose_file_and_not_an_image(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"cd/DICOMDIR": PYDICOM_DATA / "dicomdirtests" / "DICOMDIR"}))
    assert plan.exams == ()
    (dataset,) = plan.loose
    assert (dataset.name, dataset.type, dataset.folder_path) == ("DICOMDIR", 100000, ("cd",))


def test_a_dicom_object_without_study_is_a_loose_dicom_dataset(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"a/x.dcm": PYDICOM_DATA / "nested_priv_SQ.dcm"}))
    assert plan.exams == ()
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [("x.dcm", 300)]


@pytest.mark.parametrize("length", [0, 1, 8, 127, 131, 132, 140, 200, 300, 400])
def test_a_dicom_file_cut_off_in_its_header_is_stored_as_a_loose_file(tmp_path, length):
    """It never stops the import."""
    content = (PYDICOM_DATA / "MR_small.dcm").read_bytes()[:length]
    plan = analyse(uploads_of(tmp_path, {"d/cut.dcm": content}))
    assert plan.exams == () and plan.errors == ()
    assert placed_targets(plan) == ["d/cut.dcm"]


@pytest.mark.parametrize("name", ["letter.dcm", "IM_0001", "x.DCM"])
def test_text_that_is_called_dicom_is_an_ordinary_file(tmp_path, name):
    plan = analyse(uploads_of(tmp_path, {name: "This is a letter.\n" * 100}))
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [(name, 100000)]


def test_every_object_of_a_dicom_cd_lands_in_the_study_and_series_of_its_header(tmp_path):
    """The file set of pydicom has three patients, several studies, and 31 images."""
    root = PYDICOM_DATA / "dicomdirtests"
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and path.parts[-3] in ("77654033", "98892001", "98892003")
    ]
    assert len(files) == 31
    plan = analyse(uploads_of(tmp_path, {str(path.relative_to(root)): path for path in files}))

    assert plan.loose == ()
    for exam in plan.exams:
        for series in exam.series:
            numbers = []
            for file in series.datasets[0].files:
                header = pydicom.dcmread(file.upload.path, stop_before_pixels=True)
                assert (header.StudyInstanceUID, header.SeriesInstanceUID) == (exam.uid, series.uid)
                numbers.append(int(header.InstanceNumber))
            assert numbers == sorted(numbers)
    assert {exam.patient.name for exam in plan.exams if exam.patient} == {"Archibald Doe", "Peter Doe"}
    assert placed_targets(plan) == sorted(str(path.relative_to(root)) for path in files)


def test_parameters_are_those_of_the_header_without_binary_private_and_nested_values(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"x": NIBABEL_DATA / "0.dcm"}))
    (parameter_set,) = plan.exams[0].series[0].parameter_sets
    values = {parameter["Name"]: parameter["Value"] for parameter in parameter_set.parameters}

    assert parameter_set.name == "DICOM Parameters"
    assert values["RepetitionTime"] == 6600
    assert values["MagneticFieldStrength"] == 3
    assert isinstance(values["Rows"], int)
    assert isinstance(values["ImageOrientationPatient"], list) and len(values["ImageOrientationPatient"]) == 6
    assert values["Manufacturer"] == "SIEMENS"
    assert "PixelData" not in values
    assert all(name and not name.startswith("(") for name in values)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert plan.exams[0].series[0].datasets[0].parameter_sets == (parameter_set,)


@pytest.mark.parametrize(
    "path", sorted(PYDICOM_DATA.glob("*.dcm")) + sorted((PYDICOM_DATA.parent / "charset_files").glob("*.dcm"))
)
def test_no_file_of_pydicoms_collection_of_odd_files_is_lost_or_gives_values_json_can_not_hold(
    tmp_path, path
):
    plan = analyse(uploads_of(tmp_path, {"dir/file": path}))
    assert placed_targets(plan) == ["dir/file"]
    for exam in plan.exams:
        for parameter_set in exam.series[0].parameter_sets:
            json.dumps(parameter_set.parameters, allow_nan=False).encode()
            assert all(parameter["Value"] not in (None, "", []) for parameter in parameter_set.parameters)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Doe^John", "John Doe"),
        ("Doe^John^Paul^Dr^Jr", "Dr John Paul Doe Jr"),
        ("Phantom", "Phantom"),
        ("", ""),
        ("^^^^", ""),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Tarou Yamada"),
        ("=山田^太郎", "太郎 山田"),
        (None, ""),
    ],
)
def test_a_persons_name_reads_as_one_would_say_it(written, read):
    assert readable_name(written) == read


def test_names_in_other_character_sets_are_decoded(tmp_path):
    expected = {"chrRuss.dcm": "Люкceмбypг", "chrGerm.dcm": "Rüdiger Äneas", "chrGreek.dcm": "Διονυσιος"}
    for name, patient_name in expected.items():
        header = pydicom.dcmread(PYDICOM_DATA.parent / "charset_files" / name)
        header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        header.save_as(tmp_path / name)
        plan = analyse(uploads_of(tmp_path, {name: tmp_path / name}))
        patient = plan.exams[0].patient
        assert patient is not None and patient.name == patient_name


def test_times_with_an_offset_are_converted_to_utc(tmp_path):
    header = pydicom.dcmread(PYDICOM_DATA / "MR_small.dcm")
    header.StudyDate, header.StudyTime, header.TimezoneOffsetFromUTC = "20240101", "003000.5", "+0100"
    header.save_as(tmp_path / "x")
    plan = analyse(uploads_of(tmp_path, {"x": tmp_path / "x"}))
    assert plan.exams[0].start_time == "2023-12-31T23:30:00.500000Z"
