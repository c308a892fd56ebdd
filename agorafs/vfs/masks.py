"""Masks of workbooks: from the archive's run lengths to arrays in files, and back.

A mask is a label from 0 to 255 for each voxel. The archive keeps it plane by plane, each in base64: a first byte that
says how the rest is to be read, and then the labels of ``x + y * size_x``::

    0              nothing: all 0                       1        one label for all
    2, 3, 4        a label, the first index (3 bytes), then runs and gaps in turn, each 1, 2 or 3 bytes long
    5              a byte per pixel
    6, 7, 8        a label and its run (3 bytes), then again and again a label and a run of 1, 2 or 3 bytes

Numbers are big-endian; pixels after the last run are 0.

Order.  Which plane is which is disputed where a mask has several slices *and* several times: the vendor's Python
package takes plane ``z * size_t + t``, its comment and the Matlab toolbox say ``z + t * size_z``. Here it is the one
that its Python package decodes and writes, so that both show the same; for such masks compare with the viewer.

Files.  Shape ``(x, y, z, t)``, unsigned bytes, x fastest (``fortran_order`` in ``.npy``; the only order of NIfTI).
The NIfTI header has the identity for its affine: a mask says nothing of the patient's space. Both headers are written
by hand, which spares a dependency: ``.npy`` 1.0 is a line of text, NIfTI-1 has 348 fixed bytes and 4 that say "no
extensions".

Planes are decoded when they are read. Units: sizes in pixels, slices and points in time; offsets in bytes.

Failure.  ``ProtocolError`` for what the archive has and can not be read; ``BadCommand`` for a file that is no mask.
"""

from __future__ import annotations

import ast
import base64
import binascii
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from agorafs.errors import BadCommand, ProtocolError

_EMPTY, _FILLED, _BYTES = 0, 1, 5
_BITMASK_WIDTHS = {2: 1, 3: 2, 4: 3}
_REGULAR_WIDTHS = {6: 1, 7: 2, 8: 3}
_HEAD_BYTES = 5  # kind, label, and three bytes of the first index or run

# 16384 x 16384: no image of a patient is larger, and a number out of nowhere must not take the memory.
_MAX_PLANE_PIXELS = 1 << 28
_MAX_AXIS = 32767  # what NIfTI-1 can say
_MAX_PLANES = 1 << 20

_NPY_MAGIC = b"\x93NUMPY"
_NPY_ALIGNMENT = 64
_NIFTI_HEADER_BYTES = 348
_NIFTI_DATA_OFFSET = 352
_NIFTI_UINT8 = 2
_NIFTI_MM_AND_S = 2 | 8
_NIFTI_ALIGNED = 2  # what nibabel writes for an affine that somebody gave

_MAX_LABEL = 255


class Shape(NamedTuple):
    """Of a mask: columns, rows, slices, points in time."""

    x: int
    y: int
    z: int
    t: int

    @property
    def plane_pixels(self) -> int:
        return self.x * self.y

    @property
    def planes(self) -> int:
        return self.z * self.t

    @property
    def voxels(self) -> int:
        return self.plane_pixels * self.planes


class Labels(NamedTuple):
    """A whole mask: the planes of all slices of the first point in time, then of the second, …"""

    shape: Shape
    data: bytes

    def plane(self, number: int) -> bytes:
        """Return one plane."""
        start = number * self.shape.plane_pixels
        return self.data[start : start + self.shape.plane_pixels]


class Mask:
    """A mask as the archive has it, readable plane by plane. Holds nothing but the JSON it was made from."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Look at sizes and count; the planes are decoded by ``plane``.

        Raises:
            ProtocolError: It is no mask.
        """
        self.name = str(given.get("name") or "mask")
        sizes = [given.get(f"mSize{axis}", 1) for axis in "XYZT"]
        if not all(type(size) is int and 0 < size <= _MAX_AXIS for size in sizes):
            raise ProtocolError(f"the mask {self.name!r} has the sizes {sizes}")
        self.shape = Shape(*sizes)
        if self.shape.plane_pixels > _MAX_PLANE_PIXELS or self.shape.planes > _MAX_PLANES:
            raise ProtocolError(f"the mask {self.name!r} is of {sizes} voxels, which no image has")
        planes = given.get("mSliceMask") or []
        if not isinstance(planes, list) or len(planes) != self.shape.planes:
            count = len(planes) if isinstance(planes, list) else "no"
            raise ProtocolError(f"the mask {self.name!r} has {count} planes, not {self.shape.planes}")
        self._planes = planes

    def plane(self, number: int) -> bytes:
        """Return the plane *number*, counted as files do: ``z + t * size_z``.

        Raises:
            ProtocolError: It can not be decoded.
        """
        t, z = divmod(number, self.shape.z)
        coded = self._planes[z * self.shape.t + t]
        text = coded.get("mBase64Values", "") if isinstance(coded, Mapping) else None
        try:
            if not isinstance(text, str):
                raise ValueError("no text")
            return decode_plane(base64.b64decode(text, validate=True), self.shape.plane_pixels)
        except (ValueError, binascii.Error) as error:
            raise ProtocolError(
                f"slice {z} at time {t} of the mask {self.name!r} is damaged: {error}"
            ) from None


class MaskFile:
    """A mask as the bytes of a file: *header*, then its planes. Keeps the plane that was read last.

    Threads: a reader that comes between two others decodes a plane again; nothing else is shared.
    """

    def __init__(self, header: bytes, mask: Mask) -> None:
        self._header = header
        self._mask = mask
        self._last: tuple[int, bytes] = (-1, b"")

    @property
    def size(self) -> int:
        """The size of the file."""
        return len(self._header) + self._mask.shape.voxels

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* on; return how many bytes there were."""
        done = 0
        for piece in self._pieces(offset, min(len(view), max(0, self.size - offset))):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def close(self) -> None:
        """Nothing is held."""

    def whole(self) -> bytes:
        """Return all bytes of the file."""
        return b"".join(self._pieces(0, self.size))

    def _pieces(self, offset: int, length: int) -> Iterator[bytes]:
        stop = offset + length
        if offset < len(self._header):
            piece = self._header[offset:stop]
            yield piece
            offset += len(piece)
        pixels = self._mask.shape.plane_pixels
        while offset < stop:
            number, start = divmod(offset - len(self._header), pixels)
            piece = self._plane(number)[start : start + stop - offset]
            yield piece
            offset += len(piece)

    def _plane(self, number: int) -> bytes:
        known, plane = self._last
        if known != number:
            plane = self._mask.plane(number)
            self._last = (number, plane)
        return plane


def npy_file(mask: Mask) -> MaskFile:
    """Return *mask* as a NumPy file."""
    return MaskFile(npy_header(mask.shape), mask)


def nifti_file(mask: Mask) -> MaskFile:
    """Return *mask* as a NIfTI-1 file."""
    return MaskFile(_nifti_header(mask.shape), mask)


# --- planes --------------------------------------------------------------------------------------------------


def decode_plane(coded: bytes, pixels: int) -> bytes:
    """Return the labels of a plane of *pixels*.

    Raises:
        ValueError: It is coded in none of the ways that there are.
    """
    if not coded or coded[0] == _EMPTY:
        return bytes(pixels)
    kind = coded[0]
    if kind == _FILLED and len(coded) > 1:
        return coded[1:2] * pixels
    if kind == _BYTES and len(coded) > pixels:
        return coded[1 : pixels + 1]
    if kind not in _BITMASK_WIDTHS and kind not in _REGULAR_WIDTHS:
        raise ValueError(f"a plane of {len(coded)} bytes begins with {kind}")
    if len(coded) < _HEAD_BYTES:
        raise ValueError(f"a plane of kind {kind} has {len(coded)} bytes")
    plane = bytearray(pixels)
    at = 0
    for label, run in _bitmask_runs(coded) if kind in _BITMASK_WIDTHS else _regular_runs(coded):
        if at + run > pixels:
            raise ValueError(f"its runs reach beyond its {pixels} pixels")
        if label:
            plane[at : at + run] = bytes([label]) * run
        at += run
    return bytes(plane)


def _bitmask_runs(coded: bytes) -> Iterator[tuple[int, int]]:
    yield 0, int.from_bytes(coded[2:_HEAD_BYTES], "big")
    for number, run in enumerate(_numbers(coded[_HEAD_BYTES:], _BITMASK_WIDTHS[coded[0]])):
        yield (0 if number % 2 else coded[1]), run


def _numbers(coded: bytes, width: int) -> Iterator[int]:
    for start in range(0, len(coded) - width + 1, width):
        yield int.from_bytes(coded[start : start + width], "big")


def _regular_runs(coded: bytes) -> Iterator[tuple[int, int]]:
    yield coded[1], int.from_bytes(coded[2:_HEAD_BYTES], "big")
    step = 1 + _REGULAR_WIDTHS[coded[0]]
    for start in range(_HEAD_BYTES, len(coded) - step + 1, step):
        yield coded[start], int.from_bytes(coded[start + 1 : start + step], "big")


def encode_plane(plane: bytes) -> bytes:
    """Return *plane* coded: the shortest of nothing, one label, runs, and the bytes themselves."""
    if not any(plane):
        return bytes([_EMPTY])
    if plane == plane[:1] * len(plane):
        return bytes([_FILLED, plane[0]])
    runs = list(_runs(plane.rstrip(b"\0")))
    longest_after_first = max((run for _, run in runs[1:]), default=0)
    width = next((width for width in (1, 2, 3) if longest_after_first < 1 << 8 * width), None)
    as_bytes = bytes([_BYTES]) + plane
    if width is None or runs[0][1] >= 1 << 24 or _HEAD_BYTES + len(runs) * (1 + width) > len(as_bytes):
        return as_bytes
    kind = next(kind for kind, known in _REGULAR_WIDTHS.items() if known == width)
    coded = bytearray([kind, runs[0][0], *runs[0][1].to_bytes(3, "big")])
    for label, run in runs[1:]:
        coded += bytes([label]) + run.to_bytes(width, "big")
    return bytes(coded)


def _runs(plane: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    for at in range(1, len(plane) + 1):
        if at == len(plane) or plane[at] != plane[start]:
            yield plane[start], at - start
            start = at


def encoded(labels: Labels) -> dict[str, Any]:
    """Return the fields of the archive's mask that say *labels*."""
    shape = labels.shape
    planes = [labels.plane(z + t * shape.z) for z in range(shape.z) for t in range(shape.t)]
    return {
        "mSizeX": shape.x,
        "mSizeY": shape.y,
        "mSizeZ": shape.z,
        "mSizeT": shape.t,
        "mSliceSize": shape.plane_pixels,
        "mSliceMask": [
            {"mBase64Values": base64.b64encode(encode_plane(plane)).decode("ascii")} for plane in planes
        ],
    }


# --- files ---------------------------------------------------------------------------------------------------


def npy_header(shape: Shape) -> bytes:
    """Return what stands before the voxels in a ``.npy`` file."""
    about = f"{{'descr': '|u1', 'fortran_order': True, 'shape': {tuple(shape)}, }}".encode("ascii")
    length = len(_NPY_MAGIC) + 4 + len(about) + 1
    about += b" " * (-length % _NPY_ALIGNMENT) + b"\n"
    return _NPY_MAGIC + b"\x01\x00" + struct.pack("<H", len(about)) + about


def parse_npy(content: bytes) -> Labels:
    """Return the mask that a ``.npy`` file holds: two to four axes of whole numbers, in either order.

    Raises:
        BadCommand: It is no such file.
    """
    descr, is_fortran, sizes, start = _read_npy_header(content)
    if len(sizes) not in (2, 3, 4) or not all(0 < size <= _MAX_AXIS for size in sizes):
        _refuse(f"its shape is {sizes}; a mask has two to four axes (x, y, z, t)")
    shape = Shape(*sizes, *(1,) * (4 - len(sizes)))
    voxels = content[start:]
    width = int(descr[2:])
    if len(voxels) != shape.voxels * width:
        _refuse(f"it has {len(voxels)} bytes of data, and its shape {sizes} needs {shape.voxels * width}")
    voxels = _low_bytes(voxels, descr, width)
    return Labels(shape, voxels if is_fortran else _columns_first(voxels, shape))


def _read_npy_header(content: bytes) -> tuple[str, bool, Sequence[int], int]:
    """Return type, order, shape, and where the data begin."""
    if not content.startswith(_NPY_MAGIC) or len(content) < 12:
        _refuse("it does not begin as a .npy file does")
    length_bytes = 2 if content[6] == 1 else 4
    start = 8 + length_bytes
    stop = start + int.from_bytes(content[8:start], "little")
    try:
        # as NumPy itself reads it; no header of a mask is longer
        about = ast.literal_eval(content[start : min(stop, start + 4096)].decode("latin-1").strip())
        descr, is_fortran, sizes = about["descr"], about["fortran_order"], about["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        _refuse("its header can not be read")
    if not isinstance(sizes, tuple) or not all(type(size) is int for size in sizes):
        _refuse("its header has no shape")
    if not isinstance(descr, str) or descr[:1] not in "|<>=" or descr[1:] not in _WHOLE_NUMBERS:
        _refuse(f"it holds {descr}; a mask holds whole numbers (uint8) or truth values")
    return descr, is_fortran is True, sizes, stop


_WHOLE_NUMBERS = frozenset({"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"})


def _low_bytes(voxels: bytes, descr: str, width: int) -> bytes:
    """Return each number as one byte."""
    low = width - 1 if descr[0] == ">" else 0
    labels = voxels[low::width]
    is_negative = descr[1:] == "i1" and max(labels) > 127
    if is_negative or any(any(voxels[place::width]) for place in range(width) if place != low):
        _refuse(f"it has numbers that are no labels: a label is 0 to {_MAX_LABEL}")
    return labels


def _columns_first(voxels: bytes, shape: Shape) -> bytes:
    """Turn the order in which t is fastest into the one in which x is."""
    step = shape.y * shape.planes
    return b"".join(
        voxels[(y * shape.z + z) * shape.t + t :: step]
        for t in range(shape.t)
        for z in range(shape.z)
        for y in range(shape.y)
    )


def _nifti_header(shape: Shape) -> bytes:
    header = bytearray(_NIFTI_DATA_OFFSET)
    struct.pack_into("<i", header, 0, _NIFTI_HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 4 if shape.t > 1 else 3, *shape, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _NIFTI_UINT8, 8)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<2f", header, 108, _NIFTI_DATA_OFFSET, 1.0)  # where the data begin; slope
    struct.pack_into("<B", header, 123, _NIFTI_MM_AND_S)
    struct.pack_into("<2h", header, 252, 0, _NIFTI_ALIGNED)  # no quaternion; the rows below
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *(float(row == column) for column in range(4)))
    header[344:348] = b"n+1\0"
    return bytes(header)


def _refuse(why: str) -> NoReturn:
    raise BadCommand(f"this is no mask: {why}")
