"""Builds the layers of one mount: client, caches, tree, uploads, file operations. The only package that sees them all.

Why.  Every other module is given what it needs and knows only the layer below. Here the settings are turned
into those layers, once, in order.

Threads.  ``connect`` starts those that bring to the server what was written, this time or before; ``Stack.close`` ends
them, front to back, and what they have not done is in the journal.

Failure.  ``connect`` fails with what the user can act on: the server is away, does not accept the key, is too old
or is not an Agora server; a cache directory that can not be used. Nothing stays open then.

====================  ======================================================================
``building``          ``connect``: the layers in order, each given what it needs
``foundation``        client, content cache and tree: what all others stand on
``uploading``         what brings local files to the server
``working``           jobs, tasks, annotations, the control file
``changed``           which directories are to be forgotten after what
``stack``             the layers as one thing, for the process of the mount
====================  ======================================================================
"""

from agorafs.stack.building import connect
from agorafs.stack.foundation import client_of
from agorafs.stack.stack import Stack

__all__ = ["Stack", "client_of", "connect"]
