"""agorafs mounts a GyroTools Agora imaging archive as a drive.

The map of the package, from the user down to the archive. Imports point down this list only
(``tests/test_layers.py`` holds that):

====================  =====================================================================
``cli``               front end: the ``agorafs`` command
``fuse_mount``        front end: FUSE; the only package that knows the binding
``mount_process``     the process of one mount; with ``control``, ``mount_requests``, ``registry``, …
``stack``             builds the layers below from one ``config.Settings``
``vfs``               file operations in POSIX words, free of any binding
``uploads``           from files that were written to objects of the archive
``tree``              which archive object appears under which name
``cache``             listings in memory, datafile bytes on disk
``client``            the archive over HTTP; knows URLs and JSON, nothing of files
====================  =====================================================================

``errors``, ``clock``, ``config``, ``byterange`` and ``private_directory`` may be imported by all. ``sandbox`` is the
embedded Agora-compatible server; it imports nothing from the rest, so that it can contradict it.
"""

__version__ = "0.3.0"
