"""Which archive object appears under which name; no FUSE, no HTTP.

====================  ======================================================================
``tree``              paths to nodes, directories to listings, objects to places
``listing``           one directory's entries, made from records
``names``             from what the archive calls an object to what a directory can show
``naming``            names for exams and series by the user's own template
``inodes``            inode numbers as a function of what a node is
====================  ======================================================================
"""
