"""Which uploads travel together, and what a package's bytes are."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest

from agorafs.uploads import packing
from agorafs.uploads.packing import package_bytes, plan, write_package
from agorafs.uploads.sources import ContentChanged
from tests.uploads.sending import upload

CHUNK = 1 << 20


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    monkeypatch.setattr(packing, "SMALL_FILE_BYTES", 100)
    monkeypatch.setattr(packing, "PACKAGE_BYTES", 250)


@pytest.fixture
def make(tmp_path):
    count = iter(range(1, 10_000))

    def make(target: str, data: bytes, **changed):
        return upload(tmp_path, next(count), target, data, **changed)

    return make


def nothing() -> None:
    pass


def package_of(uploads) -> bytes:
    file = io.BytesIO()
    write_package(file, uploads, nothing)
    return file.getvalue()


def carried(planned):
    return [(each.is_package, each.uploads) for each in planned]


def test_small_files_travel_together_and_large_ones_alone_in_the_order_of_their_ids(make):
    uploads = [make("a", b"1"), make("large", b"x" * 101), make("b", b"2"), make("also large", b"y" * 500)]

    planned = plan(list(reversed(uploads)), None, CHUNK)

    assert carried(planned) == [(True, (1, 3)), (False, (2,)), (False, (4,))]
    assert [each.target for each in planned[1:]] == ["large", "also large"]
    assert planned[0].target.startswith("upload_") and planned[0].target.endswith(".agora_upload")
    assert [each.size for each in planned[1:]] == [101, 500]


def test_one_small_file_travels_alone(make):
    assert carried(plan([make("a", b"1"), make("large", b"x" * 101)], None, CHUNK)) == [
        (False, (1,)),
        (False, (2,)),
    ]


def test_an_empty_file_travels_in_a_package_even_alone(make):
    assert carried(plan([make("empty", b"")], None, CHUNK)) == [(True, (1,))]


def test_a_package_of_the_users_own_travels_inside_one_of_ours_whatever_its_size(make):
    uploads = [make("mine.agora_upload", b"x" * 1000), make("large", b"y" * 101)]
    assert carried(plan(uploads, None, CHUNK)) == [(True, (1,)), (False, (2,))]


def test_the_import_json_travels_alone_under_its_name_even_empty(make):
    uploads = [make("a", b"1"), make("sub/x.json", b""), make("b", b"2")]
    planned = plan(uploads, "sub/x.json", CHUNK)
    assert carried(planned) == [(True, (1, 3)), (False, (2,))]
    assert planned[1].target == "sub/x.json"


def test_a_package_holds_no_more_than_its_share(make, monkeypatch):
    uploads = [make(str(number), b"x" * 100) for number in range(5)]
    assert carried(plan(uploads, None, CHUNK)) == [(True, (1, 2)), (True, (3, 4)), (True, (5,))]
    monkeypatch.setattr(packing, "PACKAGE_FILES", 1)
    assert len(plan(uploads, None, CHUNK)) == 5


def test_a_package_holds_every_file_under_its_path(make):
    files = {
        "a.txt": b"hello",
        "d/empty": b"",
        "d/Ünïcode/日本語.dat": b"\0" * 77,
        "n" * 255: b"PK\3\4",
        "mine.agora_upload": b"not a zip",
    }
    uploads = [make(target, data) for target, data in files.items()]

    data = package_of(uploads)

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.namelist() == list(files)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_packages_bytes_depend_on_its_uploads_only_and_its_length_is_known_before(make, tmp_path):
    uploads = [make("a", b"1" * 99), make("ö", b""), make("b/c", b"3" * 50)]
    data = package_of(uploads)
    (planned,) = plan(uploads, None, CHUNK)

    for each in uploads:
        each.content.touch()
    assert package_of(reversed(uploads)) == data
    assert planned.size == package_bytes(reversed(uploads)) == len(data)


def test_a_packages_format_is_the_same_in_every_version(make):
    """A transfer that an older version began is finished by this one."""
    data = package_of([make("a/ü.txt", b"hello"), make("empty", b"")])
    assert hashlib.sha256(data).hexdigest() == (
        "b198ddfa4e7e05242979adb29c496c2c8c561166001dd4ecac4dfa14b5f5b204"
    )


@pytest.mark.parametrize("limit", [0, 10, 60, 100, 140])
def test_sizes_and_offsets_beyond_32_bits_use_the_64_bit_fields(make, monkeypatch, limit):
    monkeypatch.setattr(packing, "_ZIP64_FROM", limit)
    files = {"a": b"x" * 50, "b": b"y" * 100, "c": b""}
    uploads = [make(target, data) for target, data in files.items()]

    data = package_of(uploads)

    assert len(data) == package_bytes(uploads)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_a_content_with_other_bytes_than_recorded_is_not_packed(make):
    changed = make("a", b"before")
    changed.content.write_bytes(b"after!")
    with pytest.raises(ContentChanged, match="a changed before it was uploaded: its SHA-1"):
        package_of([changed])


def test_a_content_of_another_length_than_recorded_is_not_packed(make):
    changed = make("a", b"before")
    changed.content.write_bytes(b"longer than before")
    with pytest.raises(ContentChanged, match="6 bytes then, 18 now"):
        package_of([changed])


def test_a_content_that_is_gone_is_not_packed(make):
    gone = make("a", b"x")
    gone.content.unlink()
    with pytest.raises(ContentChanged, match="a can not be read: No such file"):
        package_of([gone])
