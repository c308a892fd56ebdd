"""Masks: what the vendor's package codes is read, what is coded here the vendor's package reads."""

from __future__ import annotations

import base64
import io
import random
from typing import Any

import nibabel
import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from workbook.mask import decode_full_mask
from workbook.mask import decode_mask as vendor_decode
from workbook.mask import encode_mask as vendor_encode

from agorafs.errors import BadCommand, ProtocolError
from agorafs.vfs.masks import (
    Labels,
    Mask,
    MaskFile,
    Shape,
    decode_plane,
    encode_plane,
    encoded,
    nifti_file,
    npy_file,
    parse_npy,
)

labels = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 2, 7, 255]), st.integers(1, 400)), min_size=1, max_size=12
).map(lambda runs: bytes(label for label, run in runs for _ in range(run)))


def a_mask(array: Any, name: str = "lv") -> dict[str, Any]:
    """Return the archive's mask of a 4-dimensional array, coded by the vendor's package."""
    x, y, z, t = array.shape
    planes = [array[:, :, k, m].flatten(order="F").tolist() for k in range(z) for m in range(t)]
    return {
        "id": 0,
        "name": name,
        "mSizeX": x,
        "mSizeY": y,
        "mSizeZ": z,
        "mSizeT": t,
        "mSliceMask": [{"mBase64Values": vendor_encode(plane)} for plane in planes],
    }


def random_array(shape=(5, 4, 3, 2)):
    return numpy.random.default_rng(7).integers(0, 4, shape, dtype=numpy.uint8)


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    numpy.lib.format.write_array(stream, numpy.asarray(array), **options)
    return stream.getvalue()


@given(labels)
@example(bytes([1]) * 256 + bytes(1))
def test_what_the_vendors_package_codes_is_decoded_as_it_decodes_it(plane):
    """It loses a first run of 256 pixels or more when all others are short: so it is the decoder that counts."""
    coded = vendor_encode(list(plane))
    assert list(decode_plane(base64.b64decode(coded), len(plane))) == vendor_decode(coded, len(plane))


@given(labels)
def test_what_is_coded_here_the_vendors_package_decodes(plane):
    mask = {
        "mSizeX": len(plane),
        "mSliceMask": [{"mBase64Values": base64.b64encode(encode_plane(plane)).decode()}],
    }
    assert bytes(decode_full_mask(mask).data) == plane


@settings(max_examples=2000)
@given(st.binary(max_size=40), st.integers(1, 300))
def test_whatever_a_plane_holds_it_is_decoded_whole_or_refused(coded, pixels):
    try:
        assert len(decode_plane(coded, pixels)) == pixels
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("kind", [2, 3, 4, 6, 7, 8])
def test_runs_of_one_two_and_three_bytes_are_read(kind):
    width = (kind - 2) % 4 + 1
    if kind < 5:
        coded = bytes([kind, 9, 0, 0, 2, *(3).to_bytes(width, "big"), *(1).to_bytes(width, "big")])
        coded += (1).to_bytes(width, "big")
        assert decode_plane(coded, 8) == bytes([0, 0, 9, 9, 9, 0, 9, 0])
    else:
        coded = bytes([kind, 9, 0, 0, 2, 5, *(3).to_bytes(width, "big"), 0, *(1).to_bytes(width, "big"), 1])
        assert decode_plane(coded, 8) == bytes([9, 9, 5, 5, 5, 0, 0, 0])


def test_a_plane_that_says_more_pixels_than_there_are_is_damaged_and_not_cut():
    with pytest.raises(ValueError, match="beyond its 8 pixels"):
        decode_plane(bytes([2, 9, 0, 0, 2, 7]), 8)


def test_a_file_has_the_voxels_that_the_vendors_package_decodes_slices_and_times_included():
    """Three slices and two times: the order that is disputed is the vendor's Python package's."""
    mask = a_mask(random_array())
    decoded = decode_full_mask(mask)
    theirs = numpy.array(decoded.data, dtype=numpy.uint8).reshape(decoded.shape)
    ours = numpy.load(io.BytesIO(npy_file(Mask(mask)).whole()))
    assert ours.dtype == numpy.uint8
    numpy.testing.assert_array_equal(ours, theirs)
    numpy.testing.assert_array_equal(ours, random_array())


def test_a_nifti_file_has_the_same_voxels_and_the_identity(tmp_path):
    path = tmp_path / "lv.nii"
    path.write_bytes(nifti_file(Mask(a_mask(random_array()))).whole())
    image = nibabel.load(path)
    numpy.testing.assert_array_equal(numpy.asarray(image.dataobj), random_array())
    numpy.testing.assert_array_equal(image.affine, numpy.eye(4))
    assert image.get_data_dtype() == numpy.uint8
    assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)


def test_a_nifti_file_of_one_time_has_three_axes(tmp_path):
    path = tmp_path / "lv.nii"
    path.write_bytes(nifti_file(Mask(a_mask(random_array((4, 4, 3, 1))))).whole())
    assert nibabel.load(path).shape == (4, 4, 3)


@pytest.mark.parametrize("form", [npy_file, nifti_file])
def test_any_part_of_a_file_reads_as_the_whole_has_it(form):
    file: MaskFile = form(Mask(a_mask(random_array())))
    whole = file.whole()
    assert len(whole) == file.size
    places = random.Random(3)
    for _ in range(200):
        offset, length = places.randrange(len(whole) + 10), places.randrange(60)
        buffer = bytearray(length)
        count = file.read_into(offset, memoryview(buffer))
        assert buffer[:count] == whole[offset : offset + length]
        assert count == len(whole[offset : offset + length])


@pytest.mark.parametrize(
    "written",
    [
        random_array(),
        numpy.asfortranarray(random_array()),
        random_array().astype("<i4"),
        random_array().astype(">u2"),
        random_array().astype("i8"),
        random_array() > 1,
    ],
)
def test_an_array_of_any_order_and_whole_number_is_taken(written):
    given_labels = parse_npy(npy(written))
    assert given_labels.shape == (5, 4, 3, 2)
    numpy.testing.assert_array_equal(
        numpy.frombuffer(given_labels.data, numpy.uint8).reshape((5, 4, 3, 2), order="F"),
        written.astype(numpy.uint8),
    )


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_form_is_read(version):
    assert parse_npy(npy(random_array(), version=version)).shape == (5, 4, 3, 2)


def test_an_array_of_two_axes_is_one_slice():
    assert parse_npy(npy(numpy.ones((3, 2), numpy.uint8))) == Labels(Shape(3, 2, 1, 1), b"\1" * 6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin"),
        (b"\x93NUMPY\x01\x00\x10\x00not a dictionary", "header can not be read"),
        (npy(numpy.zeros((3, 2))), "whole numbers"),
        (npy(numpy.full((3, 2), 256, "u2")), "0 to 255"),
        (npy(numpy.full((3, 2), -1, "i1")), "0 to 255"),
        (npy(numpy.full((3, 2), -1, "i4")), "0 to 255"),
        (npy(numpy.zeros(3, "u1")), "two to four axes"),
        (npy(numpy.zeros((1, 1, 1, 1, 1), "u1")), "two to four axes"),
        (npy(numpy.zeros((3, 0), "u1")), "two to four axes"),
        (npy(random_array())[:-1], "bytes of data"),
        (npy(random_array()) + b"\0", "bytes of data"),
    ],
)
def test_a_file_that_is_no_mask_is_refused_with_the_reason(content, words):
    with pytest.raises(BadCommand, match=words):
        parse_npy(content)


@settings(max_examples=1000)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_whatever_is_written_is_taken_or_refused(noise, place):
    content = bytearray(npy(random_array()))
    content[place : place + len(noise)] = noise
    try:
        parsed = parse_npy(bytes(content))
    except BadCommand:
        return
    assert len(parsed.data) == parsed.shape.voxels


def test_what_is_coded_whole_is_decoded_by_the_vendors_package():
    array = random_array()
    coded = encoded(parse_npy(npy(array)))
    decoded = decode_full_mask(coded)
    numpy.testing.assert_array_equal(
        numpy.array(decoded.data, dtype=numpy.uint8).reshape(decoded.shape), array
    )
    assert coded["mSliceSize"] == 20


@pytest.mark.parametrize(
    "broken",
    [
        {"mSizeX": 0},
        {"mSizeX": True},
        {"mSizeX": "5"},
        {"mSizeY": 100_000},
        {"mSizeX": 32767, "mSizeY": 32767},
        {"mSliceMask": []},
        {"mSliceMask": 5},
    ],
)
def test_a_mask_of_impossible_size_is_damaged(broken):
    with pytest.raises(ProtocolError):
        Mask({**a_mask(random_array()), **broken})


@pytest.mark.parametrize("text", ["!", "AAAA=A", 5, None, base64.b64encode(b"\x09").decode()])
def test_a_damaged_plane_is_named(text):
    mask = a_mask(random_array())
    mask["mSliceMask"][3] = {"mBase64Values": text}
    with pytest.raises(ProtocolError, match="slice 1 at time 1 of the mask 'lv'"):
        npy_file(Mask(mask)).whole()
