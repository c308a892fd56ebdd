"""What the ``agorafs`` commands can ask of a running mount, as calls of its stack.

Why.  ``sync``, ``umount``, ``upload`` and the others run in processes of their own. What they ask comes as one
object of JSON and is answered by one; here the two are brought together, and what comes in is checked.

Place.  ``mount_process`` gives the handlers to ``control.ControlServer``. ``agorafs upload --server`` has a stack
in its own process and calls the same handlers without a socket.

Long work.  Each request is answered soon. What may take minutes (looking at the files of an upload, looking them
up on the server again) runs in a thread, as a job with a number, and ``job`` asks how it is.

Threads.  Every handler may be called from any thread. ``Jobs._lock`` guards the jobs' table and is a leaf.

Failure.  ``BadCommand`` for a request that is not as it should be; else what the stack raises, from a job when
it is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from agorafs.errors import BadCommand

Handler = Callable[[dict[str, Any]], dict[str, Any]]

_MAX_NAMED_FILES = 1000  # in one answer; beyond that the number has to do


class AskedStack(Protocol):
    """What the requests need of ``stack.Stack``. Paths are paths in the mount, None means everywhere."""

    def status(self) -> dict[str, object]:
        """Return what ``agorafs status`` shows."""
        ...

    def refresh(self, path: str | None) -> None:
        """Forget listings at and below *path*."""
        ...

    def seal(self, path: str | None) -> None:
        """Begin now to send what is closed at and below *path*."""
        ...

    def unfinished(self, path: str | None) -> dict[str, Any]:
        """Return what at and below *path* is not verified on the server yet.

        ``files``, ``bytes``, ``sent_bytes``: what is on its way, open files included, failed ones not. ``open``: how
        many are open for writing. ``waiting``: why nothing moves at present, or empty. ``failed``: a list of
        ``{"path", "reason"}``. ``paths`` and ``open_paths``: the names of the first few on their way, and open.
        """
        ...

    def retry(self, path: str | None) -> int:
        """Send again what has failed; return how many files that are."""
        ...

    def cancel(self, path: str) -> int:
        """Give up what is not on the server; return how many files that were."""
        ...

    def upload(
        self,
        files: Sequence[tuple[str, str]],
        destination: str,
        *,
        import_json: dict[str, Any] | None,
        relations: dict[str, list[str]] | None,
    ) -> dict[str, int]:
        """Take *files*, pairs of a local path and the path below *destination*, into the journal.

        What is on its way to the same place already is joined, what is there is skipped. Returns ``upload`` (its
        number), ``files``, ``bytes``, ``skipped``.
        """
        ...

    def upload_status(self, upload: int) -> dict[str, Any]:
        """Return how the upload is; ``state`` is ``ended`` when nothing is left to wait for.

        ``files`` and ``bytes`` are what was not skipped, ``sent_bytes`` what of it the server has. A file ends in
        one of ``stored``, ``existed`` and ``failed`` (with its path here and the reason), but for an import file.
        ``waiting`` is why nothing moves at present, or empty. ``import_id`` is the server's number of the import, None
        while it has none.
        """
        ...

    def verify_upload(self, upload: int) -> list[dict[str, str]]:
        """Ask the server for every file of the upload; return those not there by path, size and SHA-1, and why."""
        ...

    def run_task(
        self,
        task: str,
        arguments: Mapping[str, object],
        *,
        directory: str,
        target: str | None,
        outside: str | None,
    ) -> dict[str, Any]:
        """Have the server run a task; return how its job is, as ``job_status`` does.

        *task* is said in *directory*, and so are the objects among *arguments*; *outside* is a directory on this
        machine that relative paths may be meant in.
        """
        ...

    def control(self, directory: str, words: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command in *directory*; return ``text`` and ``data`` of the answer.

        *fields* are arguments by name, besides those among *words*.
        """
        ...

    def job_status(self, job: int) -> dict[str, Any]:
        """Return how the job is: ``title``, ``state``, ``error``, ``progress``, ``waiting``, ``results`` and more."""
        ...


def handlers(stack: AskedStack) -> dict[str, Handler]:
    """Return the handler of each command, for ``control.ControlServer``."""
    jobs = Jobs()

    def refresh(request: dict[str, Any]) -> dict[str, Any]:
        stack.refresh(_path(request))
        return {}

    def seal(request: dict[str, Any]) -> dict[str, Any]:
        stack.seal(_path(request))
        return {}

    def cancel(request: dict[str, Any]) -> dict[str, Any]:
        path = _path(request)
        if path is None:
            raise BadCommand("cancel needs a path")
        return {"files": stack.cancel(path)}

    def upload(request: dict[str, Any]) -> dict[str, Any]:
        files, destination = _files(request), _path(request)
        if destination is None:
            raise BadCommand("upload needs the path of a directory")
        import_json = _object(request, "import_json")
        relations = _object(request, "relations")
        return {
            "job": jobs.start(
                lambda: dict(stack.upload(files, destination, import_json=import_json, relations=relations))
            )
        }

    def verify(request: dict[str, Any]) -> dict[str, Any]:
        number = _number(request, "upload")
        return {"job": jobs.start(lambda: _named({"failed": stack.verify_upload(number)}))}

    def run_task(request: dict[str, Any]) -> dict[str, Any]:
        task, directory = _text(request, "task"), _path(request) or "/"
        arguments = _object(request, "arguments") or {}
        target = None if request.get("target") is None else _text(request, "target")
        outside = None if request.get("outside") is None else _text(request, "outside")
        return {
            "job": jobs.start(
                lambda: stack.run_task(task, arguments, directory=directory, target=target, outside=outside)
            )
        }

    def control(request: dict[str, Any]) -> dict[str, Any]:
        directory, words = _path(request) or "/", request.get("words")
        fields = _object(request, "fields") or {}
        if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
            raise BadCommand("words must be a list of texts")
        return {"job": jobs.start(lambda: stack.control(directory, words, fields))}

    return {
        "ping": lambda request: {},
        "status": lambda request: {"status": stack.status()},
        "refresh": refresh,
        "seal": seal,
        "unfinished": lambda request: _named(stack.unfinished(_path(request))),
        "retry": lambda request: {"files": stack.retry(_path(request))},
        "cancel": cancel,
        "upload": upload,
        "upload-status": lambda request: _named(stack.upload_status(_number(request, "upload"))),
        "verify": verify,
        "control": control,
        "run-task": run_task,
        "job-status": lambda request: stack.job_status(_number(request, "number")),
        "job": lambda request: jobs.collect(_number(request, "job")),
    }


class Jobs:
    """Work that takes longer than a request may. Changing: ``_outcomes`` and ``_last``, guarded by ``_lock``.

    An outcome that nobody asks for (the command was interrupted) stays until the mount ends: some bytes each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[int, dict[str, Any] | Exception | None] = {}
        self._last = 0

    def start(self, work: Callable[[], dict[str, Any]]) -> int:
        """Begin *work* in a thread of its own and return its number."""
        with self._lock:
            self._last += 1
            number = self._last
            self._outcomes[number] = None
        threading.Thread(target=self._run, args=(number, work), name=f"job-{number}", daemon=True).start()
        return number

    def collect(self, number: int) -> dict[str, Any]:
        """Return ``{"done": False}``, or once ``{"done": True, "result": …}``; raises what the work raised."""
        with self._lock:
            if number not in self._outcomes:
                raise BadCommand(f"there is no job {number}")
            outcome = self._outcomes[number]
            if outcome is not None:
                del self._outcomes[number]
        if isinstance(outcome, Exception):
            raise outcome
        return {"done": False} if outcome is None else {"done": True, "result": outcome}

    def _run(self, number: int, work: Callable[[], dict[str, Any]]) -> None:
        outcome: dict[str, Any] | Exception
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 (raised again by ``collect``, where bugs are logged)
            outcome = error
        with self._lock:
            self._outcomes[number] = outcome


def _named(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return *answer* with no more failed files than an answer has room for, and ``failed_count``."""
    failed = list(answer["failed"])
    return {**answer, "failed": failed[:_MAX_NAMED_FILES], "failed_count": len(failed)}


def _path(request: Mapping[str, Any]) -> str | None:
    path = request.get("path")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise BadCommand("path must begin with / and is relative to the mount")
    return path


def _number(request: Mapping[str, Any], name: str) -> int:
    number = request.get(name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadCommand(f"{name} must be a number")
    return number


def _text(request: Mapping[str, Any], name: str) -> str:
    text = request.get(name)
    if not isinstance(text, str) or not text:
        raise BadCommand(f"{name} must be a text")
    return text


def _object(request: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = request.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadCommand(f"{name} must be an object")
    return value


def _files(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    files = request.get("files")
    if not isinstance(files, list) or not files:
        raise BadCommand("files must be a list of pairs")
    for pair in files:
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(isinstance(text, str) for text in pair)
            and pair[0].startswith("/")
        ):
            raise BadCommand("each of files must be an absolute path and a path below the destination")
    return [(path, target) for path, target in files]
