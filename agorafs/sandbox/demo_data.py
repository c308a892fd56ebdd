"""The files of the demo: real data out of installed packages, and documents around them.

Why.  A mount that has only seen made-up files has not been tried. pydicom and nibabel install the files their
own tests use: scans of several manufacturers, in many encodings, some damaged on purpose. They are copied as
they are; nothing is ever downloaded (pydicom's larger files, which it would fetch, are not asked for).

What is made here: the long series and the large NIfTI file (``demo_volume``), a small directory tree in the
form of a Bruker study whose images are slices of the same volume, and a few documents.

Two runs write the same bytes.

Failure.  ``DemoUnavailable`` says in one line which package is missing.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Two time points of 16-bit voxels: 10.5 MiB, more than two blocks of any reader that works in blocks of 4 MiB.
LARGE_NIFTI_SHAPE = (192, 144, 100)

_PYDICOM_OBJECTS = (
    "CT_small.dcm",
    "ExplVR_BigEndNoMeta.dcm",
    "JPEG2000.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "examples_palette.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
)
_FILE_SET = (
    "DICOMDIR",
    "77654033/CR1/6154",
    "77654033/CR2/6247",
    "77654033/CR3/6278",
    "77654033/CT2/17106",
    "77654033/CT2/17136",
    "77654033/CT2/17166",
    "77654033/CT2/17196",
    "98892003/MR1/15820",
    "98892003/MR1/4919",
    "98892003/MR1/5641",
    "98892003/MR2/15970",
    "98892003/MR2/4950",
    "98892003/MR2/4981",
    "98892003/MR2/5011",
    "98892003/MR2/6273",
    "98892003/MR700/4467",
    "98892003/MR700/4528",
    "98892003/MR700/4558",
)
_PARREC = ("phantom_EPI_asc_CLEAR_2_1", "phantom_varscale")
_NIFTI = ("anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "standard.nii.gz")
_MINC = ("small.mnc", "tiny.mnc", "minc2_4d.mnc")


class DemoUnavailable(RuntimeError):
    """The demo data can not be made; the message is one line that says what to install."""


@dataclass(frozen=True, slots=True)
class DemoTree:
    """Where ``write_files`` put what; each directory is one upload."""

    brain: Path  # one exam, two series, 179 files called DICOM/IM_0001 …
    diffusion: Path  # two slices of one Siemens series
    file_set: Path  # a DICOM CD: DICOMDIR, several patients
    objects: Path  # one file each of many kinds of DICOM
    bruker: Path  # a study directory
    parrec: Path  # two PAR/REC pairs, and a PAR alone
    nifti: Path  # small NIfTI files of both versions
    minc: Path
    documents: Path  # text, tables, a PDF, an empty file; two levels of directories
    large_nifti: Path  # one file above 8 MiB, not compressed

    def files(self) -> list[Path]:
        """Return all files, sorted."""
        return sorted(path for path in self.brain.parent.rglob("*") if path.is_file())


def write_files(directory: Path) -> DemoTree:
    """Write the files of the demo into *directory*, which is created and must not hold them yet."""
    pydicom_files = _package_files("pydicom", "data/test_files")
    nibabel_files = _package_files("nibabel", "tests/data")
    # Imported here, for the line above says what is missing more clearly than a traceback.
    from agorafs.sandbox import demo_volume

    tree = DemoTree(
        brain=directory / "brain",
        diffusion=directory / "diffusion",
        file_set=directory / "file_set",
        objects=directory / "objects",
        bruker=directory / "bruker",
        parrec=directory / "parrec",
        nifti=directory / "nifti",
        minc=directory / "minc",
        documents=directory / "documents",
        large_nifti=directory / "large" / "brain_4d.nii",
    )
    directory.mkdir(parents=True, exist_ok=True)
    _copy(nibabel_files, ("0.dcm", "1.dcm"), tree.diffusion)
    _copy(pydicom_files / "dicomdirtests", _FILE_SET, tree.file_set)
    _copy(pydicom_files, _PYDICOM_OBJECTS, tree.objects)
    _copy(nibabel_files, (f"{name}.{end}" for name in _PARREC for end in ("PAR", "REC")), tree.parrec)
    _copy(nibabel_files, ("T1.PAR",), tree.parrec)
    _copy(nibabel_files, _NIFTI, tree.nifti)
    _copy(nibabel_files, _MINC, tree.minc)

    volumes = demo_volume.read_volumes(nibabel_files / "example4d.nii.gz")
    demo_volume.write_exam(volumes[0], tree.brain)
    tree.large_nifti.parent.mkdir()
    demo_volume.write_nifti(volumes, LARGE_NIFTI_SHAPE, tree.large_nifti)
    _write_bruker(demo_volume.frames(volumes[0]), tree.bruker)
    _write_documents(tree.documents)
    return tree


def _package_files(package: str, below: str) -> Path:
    specification = importlib.util.find_spec(package)
    if specification is None or specification.origin is None:
        raise DemoUnavailable(f"the demo data need {package}: pip install 'agorafs[demo]'")
    directory = Path(specification.origin).parent / below
    if not directory.is_dir():
        raise DemoUnavailable(f"{package} is installed without its test files ({directory} is missing)")
    return directory


def _copy(source: Path, names: Iterable[str], target: Path) -> None:
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)


def _write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _write_bruker(pixels: bytes, directory: Path) -> None:
    """Write the tree of ParaVision 6 with two scans, the second with two reconstructions."""
    study = directory / "phantom_M17"
    _write(study / "subject", _SUBJECT)
    _write(study / "AdjStatePerStudy", "##TITLE=Parameter List, ParaVision 6.0.1\n##END=\n")
    for scan, (name, method, images) in enumerate(_SCANS, start=1):
        _write(study / str(scan) / "acqp", _ACQP.format(name=name, minute=20 + scan))
        _write(study / str(scan) / "method", _METHOD.format(method=method))
        _write(study / str(scan) / "fid", pixels[: 64 * 1024])
        for image in range(1, images + 1):
            reconstruction = study / str(scan) / "pdata" / str(image)
            _write(reconstruction / "2dseq", pixels)
            _write(
                reconstruction / "reco", "##TITLE=Parameter List\n##$RECO_wordtype=_16BIT_SGN_INT\n##END=\n"
            )
            _write(reconstruction / "visu_pars", "##TITLE=Parameter List\n##$VisuCoreFrameCount=24\n##END=\n")


def _write_documents(directory: Path) -> None:
    _write(directory / "protocol.txt", _PROTOCOL)
    _write(directory / "consent form.pdf", _pdf("Consent form (demo)"))
    _write(directory / "study.json", json.dumps({"name": "Neuro Study", "subjects": 3}, indent=2) + "\n")
    _write(directory / "analysis" / "volumes.csv", "subject,grey_ml,white_ml\nDEMO-0001,612.4,498.1\n")
    _write(directory / "analysis" / "logs" / "segmentation.log", "started\n" + "iteration\n" * 500 + "done\n")
    _write(directory / "analysis" / "logs" / "empty.log", b"")


def _pdf(text: str) -> bytes:
    """Return a PDF of one page with one line of *text*."""
    stream = f"BT /F1 24 Tf 72 720 Td ({text.replace('(', '[').replace(')', ']')}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    document = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        document
        + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\n" % table
        + (b"startxref\n%d\n%%%%EOF\n" % len(document))
    )


_SCANS = (("Localizer (E1)", "FLASH", 1), ("T2_TurboRARE (E2)", "RARE", 2))
_SUBJECT = """##TITLE=Parameter List, ParaVision 6.0.1
##ORIGIN=Bruker BioSpin MRI GmbH
##$SUBJECT_id=( 60 )
<PHANTOM-17>
##$SUBJECT_name_string=( 64 )
<Gel phantom 17>
##$SUBJECT_study_name=( 64 )
<Monthly phantom>
##$SUBJECT_weight=0.35
##$SUBJECT_abs_date=(1442409153, 312, 120)
##END=
"""
_ACQP = """##TITLE=Parameter List, ParaVision 6.0.1
##$ACQ_scan_name=( 64 )
<{name}>
##$ACQ_station=( 64 )
<Biospec 94/20>
##$ACQ_time=( 32 )
<2015-09-16T15:{minute}:01,123+0200>
##$ACQ_size=( 2 )
256 96
##END=
"""
_METHOD = """##TITLE=Parameter List, ParaVision 6.0.1
##$Method=<Bruker:{method}>
##$PVM_RepetitionTime=2500
##$PVM_EchoTime=33
##$PVM_Matrix=( 2 )
128 96
##END=
"""
_PROTOCOL = """Scan protocol
1. Survey, three planes
2. T1w 3D TFE, 176 slices
3. Diffusion, 64 directions
"""
