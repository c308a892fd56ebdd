"""Tasks: programs that the server runs, described and started through files.

===============  ==========================================================================
``inputs``       what a task is given, checked before the server is asked
``syntax``       what a task wants to be given, in words
``definitions``  what a task is: read, checked, made, changed, handed from project to project
``runner``       starting a run as a job
===============  ==========================================================================
"""
