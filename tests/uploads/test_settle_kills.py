"""Killed at any step, settling ends as if it had not been: nothing lost, nothing twice, nothing deleted too early.

A step is every call that settling makes of the server, the journal, the local files, the cache and the listings, once
before it is made and once after, when its answer was on the way.
"""

from __future__ import annotations

import pytest

from agorafs.client.annotations import ParameterSet
from agorafs.uploads.values import BatchState
from tests.uploads.settling import Arrival, Killed, Steps, entry

# more than any of the scenarios takes; one that took more would never have been killed at its last steps
MOST_STEPS = 600


def everything(arrival: Arrival) -> None:
    """One batch with all that can be left to do, as far as it is not done away with by another test."""
    server, root = arrival.server, arrival.root
    old = server.add_dataset({"r.txt": b"old"}, folder=root)
    server.tag_ids[old.id] = [3, 4]
    server.ratings[old.id] = 5
    server.sets[old.id] = [ParameterSet(1, "mine", False, ({"Name": "x"},))]
    links = server.add_folder("links", root)
    server.add_item(links.id, "dataset", old.id, old, is_link=True)
    outdated = server.add_dataset({"o.txt": b"oldest"}, folder=root)
    elsewhere = server.add_dataset({"e.txt": b"elsewhere"}, folder=links.id)
    exam = server.add_exam(server.project.id, "Brain")
    series = server.add_series(exam.id, "T1")

    arrival.write("a.txt", b"a")
    arrival.write("sub/b.txt", b"b")
    arrival.write("r.txt", b"new", replaces=server.replaced(old))
    changed = arrival.write("o.txt", b"older", replaces=server.replaced(outdated))
    arrival.write("f.txt", b"failed")
    arrival.write("copy/e.txt", b"elsewhere")
    arrival.write("study/1.dcm", b"1")
    arrival.write("study/2.dcm", b"2")
    removed = [arrival.write("left/x.txt", b"x"), arrival.write("g.txt", b"g")]
    arrival.directory("empty/deep")
    uploads = arrival.seal()
    arrival.local.rewrite(changed, b"newest")
    for node in [*removed, arrival.directory("left")]:
        arrival.local.uploads.remove(node)

    own = ["a.txt", "sub/b.txt", "r.txt", "o.txt", "left/x.txt", "g.txt"]
    said = [arrival.store(uploads[target]) for target in own]
    said += [arrival.store(uploads[target], series=series.id) for target in ("study/1.dcm", "study/2.dcm")]
    said.append(entry(uploads["copy/e.txt"], elsewhere, created=False))
    arrival.has_ended(*said, ignored=[{"path": "f.txt", "reason": "not wanted"}])


def forgotten(arrival: Arrival) -> None:
    """The server has forgotten a package that it had imported in part."""
    old = arrival.server.add_dataset({"r.txt": b"old"}, folder=arrival.root)
    arrival.server.tag_ids[old.id] = [3]
    arrival.write("r.txt", b"new", replaces=arrival.server.replaced(old))
    arrival.write("sub/a.txt", b"a")
    arrival.write("sub/b.txt", b"b")
    uploads = arrival.seal()
    for target in ("r.txt", "sub/a.txt"):
        arrival.store(uploads[target])


def forgotten_whole(arrival: Arrival) -> None:
    """The server has forgotten a package that it had imported."""
    arrival.write("a.txt", b"a")
    arrival.write("sub/b.txt", b"b")
    arrival.directory("empty")
    for upload in arrival.seal().values():
        arrival.store(upload)


def go_on(arrival: Arrival) -> None:
    for batch in arrival.local.journal.batches():
        if batch.state is BatchState.IMPORTING:
            arrival.settler().reconcile(batch)
        else:
            arrival.settler().settle(batch)


def state(arrival: Arrival) -> tuple[dict[str, object], dict[str, str], list[str]]:
    """Return all that counts: the server, the local files, what is still to be sent."""
    journal = arrival.local.journal
    waiting = [
        upload.target for batch in journal.batches() for upload in journal.uploads(batch.id, unsettled=True)
    ]
    return arrival.server.tree(), arrival.local_tree(), waiting


def shown(arrival: Arrival) -> set[str]:
    """Return the files that a user finds, here or there."""
    there = {path for path in arrival.server.tree() if not path.endswith("/")}
    return there | set(arrival.local_tree())


@pytest.mark.parametrize("scenario", [everything, forgotten, forgotten_whole])
def test_killed_at_any_step_it_ends_as_if_it_had_not_been(tmp_path, scenario):
    undisturbed = Arrival(tmp_path / "undisturbed")
    scenario(undisturbed)
    undisturbed.steps = Steps()
    go_on(undisturbed)
    wanted, steps = state(undisturbed), undisturbed.steps.count
    undisturbed.close()
    assert 20 < steps < MOST_STEPS

    for last in range(1, steps + 1):
        arrival = Arrival(tmp_path / str(last))
        scenario(arrival)
        to_be_found = {path.lstrip("->") for path in wanted[0] if not path.endswith("/") and "->" not in path}
        arrival.steps = Steps(last)
        with pytest.raises(Killed):
            go_on(arrival)
        arrival.local.restart()
        assert to_be_found <= shown(arrival), f"lost to view after step {last}"
        arrival.steps = Steps()
        go_on(arrival)
        assert state(arrival) == wanted, f"another end after step {last}: {arrival.steps.calls}"
        arrival.close()


def test_the_undisturbed_end_is_the_right_one(tmp_path):
    arrival = Arrival(tmp_path / "state")
    everything(arrival)
    go_on(arrival)
    plain: tuple[object, object] = (None, None), []
    about = ([3, 4], 5), [("mine", ({"Name": "x"},))]
    assert arrival.server.tree() == {
        "links/": None,
        "links/->r.txt": (b"new", *about),
        "links/e.txt": (b"elsewhere", *plain),
        "a.txt": (b"a", *plain),
        "sub/": None,
        "sub/b.txt": (b"b", *plain),
        "r.txt": (b"new", *about),
        "o.txt": (b"older", *plain),
        "copy/": None,
        "copy/e.txt": (b"elsewhere", *plain),
        "->exam Brain": None,
        "empty/": None,
        "empty/deep/": None,
    }
    assert arrival.local_tree() == {"o.txt": "", "f.txt": "the server ignored this file: not wanted"}
    arrival.close()


def test_killed_several_times_it_ends_the_same(tmp_path):
    undisturbed = Arrival(tmp_path / "undisturbed")
    everything(undisturbed)
    go_on(undisturbed)
    wanted = state(undisturbed)
    undisturbed.close()

    arrival = Arrival(tmp_path / "state")
    everything(arrival)
    kills = 0
    for last in range(1, MOST_STEPS, 3):
        arrival.steps = Steps(last)
        try:
            go_on(arrival)
            break
        except Killed:
            kills += 1
            arrival.local.restart()
    assert kills > 10
    assert state(arrival) == wanted
    arrival.close()
