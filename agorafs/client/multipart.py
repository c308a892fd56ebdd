"""The body of an upload: a few fields and one file, sent from memory piece by piece.

Why.  The library's own encoder joins fields and file into a second buffer as large as the chunk, and it writes
file names into headers, where a quote or a line end in a name changes what the server reads. Here the
names are values of fields, which may hold anything, and the file's own name is a constant.

Place.  ``transport.post_multipart`` makes one, ``session`` sends it. Every attempt iterates anew, so each sends the
same bytes from the start.

Limits.  The bytes must not change while it is in use. The boundary is 128 random bits; that they occur in
the data is not looked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from agorafs.errors import NotSupported

if TYPE_CHECKING:
    from agorafs.client.sending import OpenUploads

# Each piece is one call into the socket. Not measured; a socket seldom takes more at once.
_PIECE_BYTES = 256 * 1024


class FilePart(NamedTuple):
    """The file of a form: the field's name, a plain file name, and the bytes."""

    field: str
    file_name: str
    data: bytes | memoryview


class MultipartBody:
    """``multipart/form-data``. Fixed once made; may be iterated any number of times."""

    def __init__(
        self, fields: Mapping[str, str], file: FilePart, *, stall_s: float, open_uploads: OpenUploads
    ) -> None:
        """Encode everything but the file's bytes.

        Args:
            stall_s: How long the server may go without taking a byte before the attempt has failed.
            open_uploads: Where the socket is to be noted while it is under way.

        Raises:
            NotSupported: A value is not Unicode (a file name of other bytes): a form can not carry it.
        """
        self.stall_s = stall_s
        self.open_uploads = open_uploads
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        head.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{file.field}"; filename="{file.file_name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        try:
            self._head = "".join(head).encode()
        except UnicodeEncodeError as error:
            raise NotSupported("a name that is not UTF-8 can not be uploaded; rename the file") from error
        self._data = memoryview(file.data).cast("B")
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + len(self._data) + len(self._tail)

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(self._head)
        for start in range(0, len(self._data), _PIECE_BYTES):
            yield self._data[start : start + _PIECE_BYTES]
        yield memoryview(self._tail)
