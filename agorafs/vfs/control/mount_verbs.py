"""Verbs about this mount and not about the archive: freshness, pins, what is on its way, jobs, help; and searches.

``pin`` and ``sync`` are jobs, since they may take long; what they find out later is the job's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agorafs.cache.content import ContentRef
from agorafs.cache.pins import Pin
from agorafs.client.records import Datafile, Kind
from agorafs.config import did_you_mean
from agorafs.errors import BadCommand, JobFailed, NotFound
from agorafs.tree.listing import DirKey
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import rules
from agorafs.vfs.annotations import check_may_annotate
from agorafs.vfs.control.annotation_verbs import show
from agorafs.vfs.control.object_verbs import job_outcome
from agorafs.vfs.control.services import Request, ref
from agorafs.vfs.control.verb import Argument, Arguments, Outcome, Takes, Verb
from agorafs.vfs.jobs import Progress
from agorafs.vfs.workbooks import new_workbook

_SYNC_PAUSE_S = 1.0
_MAX_NAMED = 20
_PINNED = (Kind.DATASET, Kind.SERIES, Kind.EXAM, Kind.FOLDER, Kind.PROJECT, Kind.DATAFILE)


def _refresh(request: Request, arguments: Arguments) -> Outcome:
    path = request.path(arguments.text("path", "."))
    request.services.refresh(path)
    return Outcome(f"refreshed {path or '/'}")


# -- pins --------------------------------------------------------------------------------------------


def _pin(request: Request, arguments: Arguments) -> Outcome:
    if not arguments.has("paths"):
        pins = request.services.pinning.pins()
        lines = [f"{pin.path} {pin.size} bytes" for pin in pins]
        data = [{"path": pin.path, "bytes": pin.size, "object": pin.name} for pin in pins]
        return Outcome("\n".join(lines) or "nothing is pinned", {"pins": data})
    nodes = request.find_all(arguments.texts("paths"), *_PINNED)
    title = f"pin {' '.join(node.path for node in nodes)}"
    return job_outcome(
        request.services.jobs.start_local(title, lambda progress: _fetch_all(request, nodes, progress))
    )


def _fetch_all(request: Request, nodes: list[Node], progress: Progress) -> str:
    """Pin what is below *nodes* first, so that nothing of it is evicted while the rest is fetched."""
    pinning = request.services.pinning
    wanted: dict[str, ContentRef] = {}
    for node in nodes:
        contents = [
            request.services.content_ref(datafile) for datafile in _files_below(request, node, progress)
        ]
        pinning.pin(_pin_name(node), node.path, contents)
        wanted.update((content.key, content) for content in contents)
    total = sum(content.size for content in wanted.values())
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        progress.say(f"{done} of {total} bytes")

    for content in wanted.values():
        pinning.fetch(content, tell)
    return f"{len(wanted)} files, {total} bytes are here to stay"


def _files_below(request: Request, node: Node, progress: Progress) -> Iterator[Datafile]:
    """Give the files at and below *node*; links are not followed."""
    tree = request.services.tree
    waiting = [node]
    while waiting:
        one = waiting.pop()
        target = one.entry.target
        if isinstance(target, Datafile):
            yield target
        elif isinstance(target, DirKey):
            progress.say(f"looking at {one.path}")
            waiting += reversed(_children(tree, one))


def _children(tree: Tree, node: Node) -> list[Node]:
    """Return what is in a directory, of a project its folders and exams, which is all that it has."""
    if node.entry.ref is not None and node.entry.ref.kind is Kind.PROJECT:
        return [child for child in tree.children(node) if child.entry.name in ("folders", "exams")]
    return [child for child in tree.children(node) if not rules.is_link(child)]


def _pin_name(node: Node) -> str:
    return f"{ref(node).kind.value}:{ref(node).id}"


def _unpin(request: Request, arguments: Arguments) -> Outcome:
    texts = arguments.texts("paths")
    count = sum(request.services.pinning.unpin(_is_meant(request, text)) for text in texts)
    if not count:
        raise NotFound("nothing there is pinned; pin without a path shows what is")
    return Outcome(f"unpinned {count}", {"unpinned": count})


def _is_meant(request: Request, text: str) -> Callable[[Pin], bool]:
    """Return which pins *text* means: of the object itself, and of what was at or below its path."""
    path = request.path(text) or ""
    name = ""
    try:
        node = request.find(text)
        path, name = node.path, _pin_name(node)
    except (NotFound, BadCommand):
        pass  # it may be no object, or be gone, and its pin be left
    return lambda pin: name == pin.name or f"{pin.path}/".startswith(f"{path.rstrip('/')}/")


# -- what is on its way ------------------------------------------------------------------------------


def _sync(request: Request, arguments: Arguments) -> Outcome:
    path = request.path(arguments.text("path", "."))
    transit = request.services.transit
    transit.seal(path)
    left = transit.unfinished(path)
    if not left["files"] and not left["failed"]:
        return Outcome("all is on the server")
    _check_failed(left)
    return job_outcome(
        request.services.jobs.start_local(
            f"sync {path or '/'}", lambda progress: _wait_until_stored(request, path, progress)
        )
    )


def _wait_until_stored(request: Request, path: str | None, progress: Progress) -> str:
    transit, clock = request.services.transit, request.services.clock
    while (left := transit.unfinished(path))["files"]:
        waiting = f": {left['waiting']}" if left["waiting"] else ""
        progress.say(f"{left['files']} files, {left['bytes'] - left['sent_bytes']} bytes to go{waiting}")
        transit.seal(path)  # what was still open is closed by now, perhaps
        clock.sleep(_SYNC_PAUSE_S)
    _check_failed(left)
    return "all is on the server"


def _check_failed(left: Mapping[str, Any]) -> None:
    if left["failed"] and not left["files"]:
        named = "; ".join(f"{one['path']}: {one['reason']}" for one in left["failed"][:_MAX_NAMED])
        raise JobFailed(f"{len(left['failed'])} files failed: {named}")


def _retry(request: Request, arguments: Arguments) -> Outcome:
    count = request.services.transit.retry(request.path(arguments.text("path", ".")))
    return Outcome(f"sending {count} files again" if count else "nothing has failed", {"files": count})


def _cancel(request: Request, arguments: Arguments) -> Outcome:
    count = request.services.transit.cancel(request.path(arguments.text("path")) or "/")
    return Outcome(f"{count} files given up", {"files": count})


# -- jobs, searches, workbooks -----------------------------------------------------------------------


def _job(request: Request, arguments: Arguments) -> Outcome:
    job = request.services.jobs.job(arguments.number("number"))
    about = {
        "job": job.number,
        "title": job.title,
        "state": job.state.value,
        "error": job.error,
        "progress": job.progress,
        "is_over": job.state.is_over,
    }
    words = [f"job {job.number}: {job.state.value}", *filter(None, (job.progress, job.error))]
    return Outcome(", ".join(words), about)


def _search_series(request: Request, arguments: Arguments) -> Outcome:
    found = request.services.exploring.search_series(arguments.text("expression"))
    lines = [f"series:{one.id} {show(one.name)}" for one in found]
    data = [{"object": f"series:{one.id}", "name": one.name, "exam": one.exam} for one in found]
    return Outcome("\n".join(lines) or "no series", {"series": data})


def _objects_of_import(request: Request, arguments: Arguments) -> Outcome:
    found = request.services.exploring.import_objects(arguments.number("import"))
    return Outcome(json.dumps(found, indent=2, ensure_ascii=False), {"objects": found})


def _create_workbook(request: Request, arguments: Arguments) -> Outcome:
    body = arguments.data("workbook")
    if body is not None and not isinstance(body, dict):
        raise BadCommand("a workbook is an object")
    node = request.find(arguments.text("dataset"), Kind.DATASET)
    check_may_annotate(node)
    number = ref(node).id
    empty = new_workbook(number, arguments.text("name"), is_cardiac=arguments.flag("is-cardiac"))
    made = request.services.exploring.create_workbook({**empty, **(body or {}), "dataset": number})
    return Outcome(f"created workbook {made.get('id')} of {node.path}", {"workbook": made.get("id")})


def _update_workbook(request: Request, arguments: Arguments) -> Outcome:
    parts = {name: arguments.data(name) for name in ("mask", "contour") if arguments.has(name)}
    if not parts or not all(isinstance(part, dict) for part in parts.values()):
        raise BadCommand("update-workbook needs a mask, a contour or both, as objects")
    node = request.find(arguments.text("dataset"), Kind.DATASET)
    check_may_annotate(node)
    number = arguments.number("number")
    if number not in {one.get("id") for one in request.services.exploring.workbooks(ref(node).id)}:
        raise NotFound(f"{node.path} has no workbook {number}")
    request.services.exploring.update_workbook(number, **parts)
    return Outcome(f"updated workbook {number} of {node.path}", {"workbook": number})


# -- help --------------------------------------------------------------------------------------------


def help_verb(known: Callable[[], Mapping[str, Verb]]) -> Verb:
    """Return the verb that shows the others, which *known* gives."""

    def show_help(request: Request, arguments: Arguments) -> Outcome:
        verbs = known()
        wanted = arguments.text("verb")
        if wanted and wanted not in verbs:
            raise BadCommand(f"there is no command {wanted[:60]!r}{did_you_mean(wanted, verbs)}")
        if wanted:
            return Outcome(_about(verbs[wanted]), {"verbs": [_as_json(verbs[wanted])]})
        lines = [f"{verb.example}\n    {verb.summary}" for _, verb in sorted(verbs.items())]
        return Outcome("\n".join(lines), {"verbs": [_as_json(verb) for _, verb in sorted(verbs.items())]})

    return Verb(
        "help", "show all commands, or one", "help tag", show_help,
        (Argument("verb", "a command", is_required=False),), changes=False,
    )  # fmt: skip


def _about(verb: Verb) -> str:
    arguments = (
        f"    {one.name}: {one.what}{'' if one.is_required else ', may be left out'}"
        for one in verb.arguments
    )
    return "\n".join([verb.usage(), f"    {verb.summary}", *arguments, f"example: {verb.example}"])


def _as_json(verb: Verb) -> dict[str, Any]:
    return {
        "command": verb.name,
        "summary": verb.summary,
        "usage": verb.usage(),
        "example": verb.example,
        "arguments": [
            {"name": one.name, "what": one.what, "takes": one.takes.value, "required": one.is_required}
            for one in verb.arguments
        ],
    }


_HERE = Argument("path", "a path; the directory itself if it is left out", is_required=False)
_DATASET = Argument("dataset", "a dataset")

VERBS = (
    Verb("refresh", "show at once what others have changed", "refresh exams/E1", _refresh, (_HERE,), changes=False),
    Verb(
        "pin", "fetch all below, as a job, and keep it in the cache until unpinned; without a path show what is",
        "pin exams/E1", _pin, (Argument("paths", "objects", Takes.TEXTS, is_required=False),), changes=False,
    ),
    Verb(
        "unpin", "let the cache evict it again", "unpin exams/E1", _unpin,
        (Argument("paths", "objects", Takes.TEXTS),), changes=False,
    ),
    Verb("sync", "send at once what is written; a job waits for it", "sync folders", _sync, (_HERE,), changes=False),
    Verb("retry", "send again what the server did not take", "retry folders/a.dat", _retry, (_HERE,), changes=False),
    Verb(
        "cancel", "give up files that are not on the server", "cancel folders/a.dat", _cancel,
        (Argument("path", "a path"),), changes=False,
    ),
    Verb(
        "job", "show how a job is", "job 7", _job, (Argument("number", "its number", Takes.NUMBER),), changes=False
    ),
    Verb(
        "search-series", "find series by an expression over their parameters",
        "search-series 'parameter.EX_ACQ_flip_angle > 20'", _search_series,
        (Argument("expression", "an expression"),), changes=False,
    ),
    Verb(
        "objects-of-import", "show what an import has made", "objects-of-import 12", _objects_of_import,
        (
            Argument(
                "import", "the import_id in the answer of agorafs upload --json, or in /.agora/uploads/status.json",
                Takes.NUMBER,
            ),
        ),
        changes=False,
    ),
    Verb(
        "create-workbook", "make a workbook of a dataset", "create-workbook exams/E1/S1/a.nii", _create_workbook,
        (
            _DATASET,
            Argument("name", "a name", is_required=False),
            Argument("is-cardiac", "with the buttons of cardiac MR", Takes.FLAG, is_required=False),
            Argument("workbook", "more of it", Takes.DATA, is_required=False),
        ),
    ),
    Verb(
        "update-workbook", "replace the masks or the contours of a workbook",
        '{"command": "update-workbook", "dataset": "exams/E1/S1/a.nii", "number": 5, "mask": {"mMasks": []}}',
        _update_workbook,
        (
            _DATASET,
            Argument("number", "the workbook's number", Takes.NUMBER),
            Argument("mask", "masks", Takes.DATA, is_required=False),
            Argument("contour", "contours", Takes.DATA, is_required=False),
        ),
    ),
)  # fmt: skip
