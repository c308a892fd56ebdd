"""Tasks that are really executed, by programs that the sandbox brings itself.

A real server hands a task's command line to a host. Here a command from a client is never executed, and there is no
shell: the first word of a task's ``execute_template``, or of each script of a script task, names one of the built-in
programs (``definitions.PROGRAMS``). A task that names anything else can be made, saved and copied; its run ends in
state 3 and says why.

::

    runs           queue, working directory, subprocess, import of what came out
    requests       what a client wants to run: inputs and target, checked
    definitions    tasks as clients write them: both kinds, their inputs, the programs they name
    programs       the built-in programs; runs in the subprocess and imports nothing of this package
"""
