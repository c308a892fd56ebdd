"""Recognising formats that bring no study with them: pairs of files, and single files.

Why.  A ``.REC`` without its ``.PAR`` is useless, so files that are only good together become one dataset. All
others become one dataset each, whose type tells programs what they may expect.

How.  Pairs are files of one directory with the same name and extensions that belong together, in any letter
case. Single files are recognised by their content where the format has a mark; where it has none (ExamCard,
``.sin``, ``.aex``), by the extension, as the vendor's own connector does.

Failure.  A damaged or too short file is of type OTHER. Nothing here raises because of what is in a file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agorafs.sandbox.analysis.datasets import DatasetType, extension_of, loose_dataset, split_target, stem_of
from agorafs.sandbox.plan import PlannedDataset, UploadedFile

_GZIP_MAGIC = b"\x1f\x8b"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 64 * 1024
_NIFTI_HEADER_BYTES = 540
_NIFTI1_HEADER_BYTES = 348


@dataclass(frozen=True, slots=True)
class _PairRule:
    """Extensions that make a dataset when all of *required* are there; *optional* ones join."""

    dataset_type: DatasetType
    required: tuple[str, str]
    optional: tuple[str, ...] = ()


_PAIR_RULES = (
    _PairRule(DatasetType.PHILIPS_RAW, (".raw", ".lab"), (".sin",)),
    _PairRule(DatasetType.PHILIPS_PARREC, (".par", ".rec")),
    _PairRule(DatasetType.PHILIPS_SPECTRO, (".spar", ".sdat")),
    _PairRule(DatasetType.NIFTI_ANALYZE75, (".hdr", ".img")),
)

_TYPE_BY_EXTENSION = MappingProxyType(
    {
        ".examcard": DatasetType.PHILIPS_EXAMCARD,
        ".sin": DatasetType.PHILIPS_SINFILE,
        ".mrui": DatasetType.JMRUI_SPECTRO,
        ".aex": DatasetType.AEX,
    }
)


def plan_loose(uploads: Iterable[UploadedFile]) -> tuple[PlannedDataset, ...]:
    """Return one loose dataset for every pair, and one for every other file."""
    remaining = list(uploads)
    datasets: list[PlannedDataset] = []
    by_stem: dict[tuple[tuple[str, ...], str], list[UploadedFile]] = {}
    for upload in remaining:
        directory, name = tuple(upload.target.split("/")[:-1]), split_target(upload.target)[1]
        by_stem.setdefault((directory, stem_of(name)), []).append(upload)
    singles: list[UploadedFile] = []
    for (_, stem), members in by_stem.items():
        pairs, rest = _take_pairs(stem, members)
        datasets += pairs
        singles += rest
    datasets += (loose_dataset([upload], type_of(upload)) for upload in singles)
    return tuple(sorted(datasets, key=lambda dataset: dataset.files[0].upload.target))


def type_of(upload: UploadedFile) -> DatasetType:
    """Return the dataset type of a single file."""
    head = _read_head(upload.path)
    extension = extension_of(upload.target)
    nifti_type = _nifti_type(head)
    if nifti_type is not None:
        return nifti_type
    recognise = _CONTENT_RULES.get(extension)
    if recognise is not None and recognise(head, upload.size):
        return _CONTENT_TYPES[extension]
    return _TYPE_BY_EXTENSION.get(extension, DatasetType.OTHER)


def _take_pairs(
    stem: str, members: Sequence[UploadedFile]
) -> tuple[list[PlannedDataset], list[UploadedFile]]:
    datasets = []
    rest = list(members)
    for rule in _PAIR_RULES:
        extensions = {extension_of(upload.target) for upload in rest}
        if not extensions.issuperset(rule.required):
            continue
        wanted = (*rule.required, *rule.optional)
        pair = sorted(
            (upload for upload in rest if extension_of(upload.target) in wanted),
            key=lambda upload: (wanted.index(extension_of(upload.target)), upload.target),
        )
        dataset_type = rule.dataset_type
        if dataset_type is DatasetType.NIFTI_ANALYZE75:
            found = _header_pair_type(pair[0].path)
            if found is None:
                continue  # any program may call its files .hdr and .img
            dataset_type = found
        rest = [upload for upload in rest if upload not in pair]
        datasets.append(loose_dataset(pair, dataset_type, name=stem))
    return datasets, rest


def _header_pair_type(path: Path) -> DatasetType | None:
    """Tell the three formats that share ``.hdr`` and ``.img``; None when it is none of them."""
    head = _read_head(path)
    nifti_type = _nifti_type(head)
    if nifti_type is not None:
        return nifti_type
    is_analyze = len(head) >= _NIFTI1_HEADER_BYTES and _NIFTI1_HEADER_BYTES in (
        int.from_bytes(head[:4], "little"),
        int.from_bytes(head[:4], "big"),
    )
    return DatasetType.NIFTI_ANALYZE75 if is_analyze else None


def _read_head(path: Path) -> bytes:
    """Return the beginning of a file, unpacked when it is a gzip file."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        if not head.startswith(_GZIP_MAGIC):
            return head
        stream.seek(0)
        try:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return unpacked.read(_NIFTI_HEADER_BYTES)
        except (OSError, EOFError, zlib.error):
            return head


def _nifti_type(head: bytes) -> DatasetType | None:
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return DatasetType.NIFTI1
    if head[4:8] in (b"n+2\0", b"ni2\0"):
        return DatasetType.NIFTI2
    return None


def _is_hdf5(head: bytes, size: int) -> bool:
    return head.startswith(_HDF5_MAGIC)


def _is_twix(head: bytes, size: int) -> bool:
    """Recognise Siemens raw data, which has no mark, by the two first numbers of its two layouts.

    From VD on a file begins with 0 and the number of measurements (up to 64), and 8 bytes later says where
    the first one starts. Before, it begins with the size of its text header and the number of named parts in
    it.
    """
    if len(head) < 32:
        return False
    first, second = (int.from_bytes(head[start : start + 4], "little") for start in (0, 4))
    if first == 0:
        start_of_first = int.from_bytes(head[16:24], "little")
        return 1 <= second <= 64 and 24 <= start_of_first < size
    name = head[8:24].split(b"\0")[0]
    return 1024 <= first < size and 1 <= second <= 64 and name.isalnum()


def _is_siemens_protocol(head: bytes, size: int) -> bool:
    return b"XProtocol" in head or b"ASCCONV" in head


def _is_par(head: bytes, size: int) -> bool:
    return b"DATA DESCRIPTION FILE" in head


_CONTENT_RULES: Mapping[str, Callable[[bytes, int], bool]] = MappingProxyType(
    {".h5": _is_hdf5, ".mrd": _is_hdf5, ".dat": _is_twix, ".pro": _is_siemens_protocol, ".par": _is_par}
)
_CONTENT_TYPES: Mapping[str, DatasetType] = MappingProxyType(
    {
        ".h5": DatasetType.ISMRMRD,
        ".mrd": DatasetType.ISMRMRD,
        ".dat": DatasetType.SIEMENS_RAW,
        ".pro": DatasetType.SIEMENS_PRO,
        ".par": DatasetType.PHILIPS_PARREC,
    }
)
