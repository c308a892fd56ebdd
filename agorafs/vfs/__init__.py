"""File operations in POSIX words, free of any binding.

====================  ======================================================================
``filesystem``        one method per operation; what front ends call
``merged``            one tree from what the archive lists and what was written here
``files``             the bytes of files: opening, reading, writing
``sources``           stored files that are open for writing
``changes``           what making and removing names becomes
``renames``           what a rename becomes
``hidden``            files that are removed, or renamed over, while they are open
``rules``             what may be changed where, and in which words the rest is refused
``whiteouts``         files removed one by one from a dataset that is deleted as a whole
``views``             what can be made and removed among tags, tasks, the trash, projects
``tasks``             programs that the server runs: their inputs, their definitions, starting them
``jobs``              what goes on in the background, followed to its end; ``job_store`` keeps it
``objects``           which object of the archive a path, a link or a number means
``aside``             files and directories that the archive does not have, as values
``virtual``           such files that act when they are written
``dot_agora``         ``.agora``: what an object is, in words, beside the object
``control``           ``.agora/control``: commands in words, for what files have no words for
``dot_jobs``          ``/.agora/jobs``: the jobs as files
``xattrs``            the same as extended attributes
``path_xattrs``       which of them a path has at the moment
``attr``              what is true of a node before it is opened, as a value
``attributes``        the same for what was found at a path
``handles``           open files
``complaints``        why an operation failed, where the user can read it back
``errno_map``         the one table from errors to errno
====================  ======================================================================

Order of locks in the whole process: ``handles`` < ``tree`` < leaves (``cache.metadata``, ``cache.content``,
``complaints``, ``whiteouts``, ``hidden``). A later one may be taken while an earlier one is held, never the reverse;
none is held across disk or network. Those of ``uploads`` are in a row of their own: nothing here is called while one
of them is held, but for the filling of a file (``uploads.nodes``), and none of them is taken while one of these is
held.
"""

from agorafs.vfs.files import Opened
from agorafs.vfs.filesystem import Capacity, FileSystem

__all__ = ["Capacity", "FileSystem", "Opened"]
