"""Names that programs use for a moment, and names under which they keep the old version.

A file with a temporary name stays here until it is renamed to a real one: uploading each ``.goutputstream-…`` of an
editor would fill the archive with halves. The list is what editors, browsers and copy tools were seen to use. A random
suffix must look random (``.settings.backup`` is a real name), which one in two hundred does not: that file is closed
and renamed long before its batch is sealed.
"""

from __future__ import annotations

import re

_EPHEMERAL = re.compile(
    r"""
    \.goutputstream-.+          # GTK
    | \..+\.(?![a-z]{6}$)[A-Za-z0-9]{6}      # rsync: .NAME.XXXXXX
    | .+\.part                  # browsers, KIO
    | .+\.partial~              # Thunar
    | .+\.crdownload            # Chromium
    | \..*\.sw[a-z]             # vim
    | .+~                       # backups of editors
    | sed(?![a-z]{6}$)[A-Za-z0-9]{6}         # sed -i
    | \.~lock\..+\#             # LibreOffice
    | \.\#.+ | \#.+\#           # Emacs
    | \.DS_Store | \._.+        # macOS
    | \.nfs.+ | \.fuse_hidden.+ # a file removed while it is open
    """,
    re.VERBOSE | re.DOTALL,
)
_BACKUP = re.compile(r".+\.(bak|orig|old)", re.DOTALL | re.IGNORECASE)


def is_ephemeral(name: str) -> bool:
    """Tell whether a file of this name stays local until it is renamed."""
    return _EPHEMERAL.fullmatch(name) is not None


def is_backup(name: str) -> bool:
    """Tell whether a stored file may be renamed to *name* to make place for its successor."""
    return is_ephemeral(name) or _BACKUP.fullmatch(name) is not None
