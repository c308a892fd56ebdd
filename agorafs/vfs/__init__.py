"""File operations in POSIX words, free of any binding.

====================  ======================================================================
``filesystem``        one method per operation; what front ends call
``dot_agora``         ``.agora``: what an object is, in words, beside the object
``xattrs``            the same as extended attributes
``attr``              what is true of a node before it is opened
``handles``           open files
``complaints``        why an operation failed, where the user can read it back
``errno_map``         the one table from errors to errno
====================  ======================================================================

Order of locks in the whole process: ``handles`` < ``tree`` < leaves (``cache.metadata``, ``cache.content``,
``complaints``). A later one may be taken while an earlier one is held, never the reverse; none is held across
disk or network.
"""

from agorafs.vfs.filesystem import Capacity, FileSystem, Opened

__all__ = ["Capacity", "FileSystem", "Opened"]
