"""Whatever is uploaded, under whatever names: every file is in the plan, once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agorafs.sandbox.analysis import analyse
from tests.sandbox_analysis.support import NIBABEL_DATA, PYDICOM_DATA, placed_targets, uploads_of

_CONTENTS = st.sampled_from(
    [
        b"",
        b"text",
        b"##TITLE=Parameter List\n##$SUBJECT_id=<1>\n",
        b"\x1f\x8b",
        b"\x08\x00\x05\x00CS\x0a\x00",
        NIBABEL_DATA / "0.dcm",
        NIBABEL_DATA / "functional.nii",
        PYDICOM_DATA / "MR_small.dcm",
        PYDICOM_DATA / "ExplVR_LitEndNoMeta.dcm",
        PYDICOM_DATA / "test-SR.dcm",
        PYDICOM_DATA / "nested_priv_SQ.dcm",
        PYDICOM_DATA / "dicomdirtests" / "DICOMDIR",
        (PYDICOM_DATA / "rtplan.dcm").read_bytes()[:300],
    ]
)
_NAMES = st.sampled_from(
    [
        "subject",
        "acqp",
        "method",
        "fid",
        "2dseq",
        "reco",
        "pdata",
        "1",
        "2",
        "17",
        "x.par",
        "x.rec",
        "X.REC",
        "x.raw",
        "x.lab",
        "x.sin",
        "x.sdat",
        "x.spar",
        "x.hdr",
        "x.img",
        "x.nii",
        "x.h5",
        "x.dat",
        "x.pro",
        "x.aex",
        "..",
        ".",
        "IM_0001",
        "a.par.rec",
        ".par",
    ]
) | st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
_TARGETS = st.lists(_NAMES, min_size=1, max_size=5).map("/".join)
_TREES = st.dictionaries(_TARGETS, _CONTENTS, min_size=1, max_size=12)
_STUDY = {"s/subject": b"##TITLE=x\n", "s/1/fid": b"", "s/1/pdata/1/2dseq": b""}


# Reading files takes as long as a loaded machine takes; that is no fault of the analysis.
_UNTIMED = [HealthCheck.too_slow]


@settings(max_examples=150, deadline=None, suppress_health_check=_UNTIMED)
@given(_TREES, st.booleans(), st.data())
def test_every_uploaded_file_is_in_exactly_one_dataset(tree, with_study, data):
    """With and without an import JSON and relations, valid or not."""
    if with_study:
        tree = {**_STUDY, **{f"s/{target}": content for target, content in tree.items()}}
    targets = st.sampled_from(sorted(tree))
    listed = data.draw(st.lists(targets, max_size=3))
    relations = data.draw(st.dictionaries(targets, st.lists(targets, max_size=3), max_size=3))
    import_json = {
        "Datasets": [{"Type": "OTHER", "Files": [{"File": target.split("/")[-1]} for target in listed]}],
        "ImportParameter": {"Exam": {"UID": "1.2"}, "Series": {"UID": "1.2.3"}},
    }
    with tempfile.TemporaryDirectory() as directory:
        uploads = uploads_of(Path(directory), tree)
        for plan in (
            analyse(uploads),
            analyse(uploads, import_json=import_json),
            analyse(uploads, relations=relations),
            analyse(uploads, import_json=import_json, relations=relations),
        ):
            assert placed_targets(plan) == sorted(tree)


@settings(max_examples=30, deadline=None, suppress_health_check=_UNTIMED)
@given(_TREES, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_files(tree, random):
    with tempfile.TemporaryDirectory() as directory:
        uploads = uploads_of(Path(directory), tree)
        shuffled = list(uploads)
        random.shuffle(shuffled)
        assert analyse(shuffled) == analyse(uploads)
