"""From files that were written to objects of the archive: spool, journal, batches, sender.

``uploads.Uploads`` is what the file operations see; the other modules are its parts. DESIGN of this package: the
docstring of ``uploads.uploads``.
"""
