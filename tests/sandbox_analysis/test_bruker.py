"""A directory tree of a Bruker scanner becomes one study."""

from __future__ import annotations

import pytest

from agorafs.sandbox.analysis import analyse
from agorafs.sandbox.analysis.jcamp import read_jcamp
from agorafs.sandbox.plan import PlannedPatient
from tests.sandbox_analysis.support import PYDICOM_DATA, placed_targets, uploads_of

SUBJECT = """##TITLE=Parameter List, ParaVision 6.0.1
##ORIGIN=Bruker BioSpin MRI GmbH
$$ /opt/PV6.0.1/data/nmr/mouse/subject
##$SUBJECT_id=( 60 )
<M-17>
##$SUBJECT_name_string=( 64 )
<Mouse 17>
##$SUBJECT_study_instance_uid=( 64 )
<2.16.756.5.5.100.1384712661.20297.1442409159.1>
##$SUBJECT_study_name=( 64 )
<Cortex pilot>
##$SUBJECT_sex=FEMALE
##$SUBJECT_dbirth=( 32 )
<20150701>
##$SUBJECT_weight=0.0215
##$SUBJECT_abs_date=(1442409153, 312, 120)
##END=
"""
ACQP = """##TITLE=Parameter List
##$ACQ_scan_name=( 64 )
<T1_RARE (E5)>
##$ACQ_station=( 64 )
<Biospec 94/20>
##$ACQ_time=( 32 )
<2015-09-16T15:20:01,123+0200>
##$ACQ_size=( 2 )
256 128
##$ACQ_phase_list=( 6 )
@4*(0) 1.5 -2
##$ACQ_struct=(1, <a>, 3)
##END=
"""
METHOD = "##TITLE=Parameter List\n##$Method=<Bruker:RARE>\n##$PVM_RepetitionTime=1500\n##END=\n"


def study(root: str = "mouse/") -> dict[str, bytes | str]:
    return {
        f"{root}subject": SUBJECT,
        f"{root}AdjStatePerStudy": "##TITLE=adjustments\n",
        f"{root}AdjResult/B0": b"map",
        f"{root}5/acqp": ACQP,
        f"{root}5/method": METHOD,
        f"{root}5/fid": b"\0" * 64,
        f"{root}5/pdata/1/2dseq": b"\1" * 64,
        f"{root}5/pdata/1/reco": "##TITLE=reco\n",
        f"{root}5/pdata/1/dicom/MRIm01.dcm": (PYDICOM_DATA / "MR_small.dcm").read_bytes(),
        f"{root}5/pdata/2/2dseq": b"\2" * 64,
        f"{root}12/method": METHOD,
        f"{root}12/rawdata.job0": b"\3" * 64,
    }


@pytest.mark.parametrize("root", ["mouse/", "", "data/2015/mouse/"])
def test_a_study_directory_becomes_an_exam_with_a_series_per_scan(tmp_path, root):
    plan = analyse(uploads_of(tmp_path, study(root)))

    assert plan.loose == () and plan.errors == ()
    (exam,) = plan.exams
    assert exam.uid == "2.16.756.5.5.100.1384712661.20297.1442409159.1"
    assert (exam.name, exam.vendor, exam.scanner_name) == ("Cortex pilot", "Bruker", "Biospec 94/20")
    assert exam.start_time == "2015-09-16T13:12:33Z"
    assert exam.patient == PlannedPatient("M-17", "Mouse 17", "2015-07-01", "f", 0.0215)
    assert [(series.name, series.acquisition_number) for series in exam.series] == [
        ("T1_RARE (E5)", 5),
        ("RARE", 12),
    ]
    assert exam.series[0].time == "2015-09-16T13:20:01.123000Z"


def test_every_file_of_a_study_lands_in_exactly_one_dataset_by_its_place(tmp_path):
    """A DICOM export inside the tree stays with the reconstruction it was exported from."""
    plan = analyse(uploads_of(tmp_path, study()))
    (exam,) = plan.exams
    datasets = [*exam.datasets, *(dataset for series in exam.series for dataset in series.datasets)]
    assert [(dataset.type, [file.original_filename for file in dataset.files]) for dataset in datasets] == [
        (201, ["mouse/AdjResult/B0", "mouse/AdjStatePerStudy", "mouse/subject"]),
        (200, ["mouse/5/acqp", "mouse/5/fid", "mouse/5/method"]),
        (202, ["mouse/5/pdata/1/2dseq", "mouse/5/pdata/1/dicom/MRIm01.dcm", "mouse/5/pdata/1/reco"]),
        (202, ["mouse/5/pdata/2/2dseq"]),
        (200, ["mouse/12/method", "mouse/12/rawdata.job0"]),
    ]
    assert placed_targets(plan) == sorted(study())


def test_parameters_come_from_acqp_and_method(tmp_path):
    plan = analyse(uploads_of(tmp_path, study()))
    (parameter_set,) = plan.exams[0].series[0].parameter_sets
    values = {parameter["Name"]: parameter["Value"] for parameter in parameter_set.parameters}
    assert values["PVM_RepetitionTime"] == 1500
    assert values["ACQ_size"] == [256, 128]
    assert values["ACQ_scan_name"] == "T1_RARE (E5)"


def test_a_study_without_a_uid_gets_the_same_uid_at_each_import(tmp_path):
    files = study()
    files["mouse/subject"] = SUBJECT.replace("SUBJECT_study_instance_uid", "SUBJECT_something_else")
    (first,), (second,) = (analyse(uploads_of(tmp_path, files)).exams for _ in range(2))
    assert first.uid == second.uid
    assert [series.uid for series in first.series] == [series.uid for series in second.series]
    assert first.uid != "2.16.756.5.5.100.1384712661.20297.1442409159.1"


@pytest.mark.parametrize("missing", ["subject", "scan", "jcamp"])
def test_a_directory_that_only_resembles_a_study_is_left_as_loose_files(tmp_path, missing):
    files = study()
    if missing == "subject":
        del files["mouse/subject"]
    elif missing == "scan":
        files = {target: content for target, content in files.items() if target.count("/") == 1}
    else:
        files["mouse/subject"] = "Re: our meeting"
    plan = analyse(uploads_of(tmp_path, files))
    assert not [exam for exam in plan.exams if exam.vendor == "Bruker"]
    assert placed_targets(plan) == sorted(files)


def test_the_date_of_paravision_5_is_understood(tmp_path):
    files = study()
    files["mouse/subject"] = "##TITLE=x\n##$SUBJECT_date=( 32 )\n<6:20:05  7 Dec 2012>\n"
    assert analyse(uploads_of(tmp_path, files)).exams[0].start_time == "2012-12-07T06:20:05Z"


def test_jcamp_values_become_numbers_text_and_lists(tmp_path):
    path = tmp_path / "acqp"
    path.write_text(ACQP)
    records = read_jcamp(path)
    assert records["TITLE"] == "Parameter List"
    assert records["ACQ_phase_list"] == [0, 0, 0, 0, 1.5, -2]
    assert records["ACQ_struct"] == "(1, <a>, 3)"
    assert records["ACQ_station"] == "Biospec 94/20"
    assert "END" not in records


def test_a_few_bytes_that_stand_for_a_huge_array_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "acqp"
    path.write_text("##$Bomb=( 9 )\n" + "@9999999*(0) " * 10_000)
    bomb = read_jcamp(path)["Bomb"]
    assert isinstance(bomb, list) and bomb == [0] * 10_000
