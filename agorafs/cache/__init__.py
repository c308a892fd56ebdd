"""What has been fetched and may be used again. A cache may be slow or empty, never wrong, never fatal.

====================  ======================================================================
``metadata``          listings in memory, fresh for a time
``at_once``           several questions to the archive, a few at a time
``content``           datafile bytes on disk, by SHA-1, for ever
====================  ======================================================================
"""
