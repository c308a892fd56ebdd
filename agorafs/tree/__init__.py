"""Which archive object appears under which name; no FUSE, no HTTP.

====================  ======================================================================
``tree``              paths to nodes, directories to listings, objects to places
``listing``           one directory's entries
``drafts``            what a record is shown as in a listing
``directories``       the listings of the archive's own directories
``view_listings``     those of tags, searches, tasks and the trash
``views``             what these cost to ask for
``locating``          from an object to its path
``names``             from what the archive calls an object to what a directory can show
``naming``            names for exams and series by the user's own template
``inodes``            inode numbers as a function of what a node is
====================  ======================================================================
"""
