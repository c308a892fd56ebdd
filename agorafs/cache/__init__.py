"""What has been fetched and may be used again. A cache may be slow or empty, never wrong, never fatal.

====================  ======================================================================
``metadata``          listings in memory, fresh for a time
``content``           datafile bytes on disk, by SHA-1, for ever
====================  ======================================================================
"""
