"""The control file ``.agora/control``: commands in words, for what files have no words for.

====================  ======================================================================
``language``          where a command ends, and what its words are
``verb``              what a verb takes, and whether a command has it
``services``          what the verbs act upon
``desk``              carries out commands
``answers``           keeps what was answered for the next opening
``talk``              one opening of a control file
``dot_control``       the control file among what is in ``.agora``
``annotation_verbs``  tags, ratings, locks, parameters
``object_verbs``      links, copies, moves, names, deletions
``project_verbs``     projects, members, hosts, users, trash
``task_verbs``        tasks
``mount_verbs``       this mount: freshness, pins, what is on its way, jobs, help; searches, workbooks
====================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from agorafs.vfs.control import annotation_verbs, mount_verbs, object_verbs, project_verbs, task_verbs
from agorafs.vfs.control.desk import Answer, Desk
from agorafs.vfs.control.services import Services
from agorafs.vfs.control.talk import Talk
from agorafs.vfs.control.verb import Verb

__all__ = ["VERBS", "Answer", "Desk", "Services", "Talk"]

VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        *annotation_verbs.VERBS,
        *object_verbs.VERBS,
        *project_verbs.VERBS,
        *task_verbs.VERBS,
        *mount_verbs.VERBS,
        mount_verbs.help_verb(lambda: VERBS),
    )
}
