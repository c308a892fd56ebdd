"""Tags, ratings, parameters and locks: few requests to read them, changes that are seen at once and lose nothing."""

from __future__ import annotations

import threading

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind, RemoteRef
from agorafs.errors import (
    BadCommand,
    NoSuchXattr,
    NotFound,
    NotPermitted,
    PermissionDenied,
    ProtocolError,
    RemoteUnavailable,
)
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.tagging import split_labels
from agorafs.vfs.turns import Turns
from tests.support.manual_clock import ManualClock
from tests.support.memory_annotations import MemoryAnnotations

TTL_S = 30.0
P, Q = 3, 4
EXAM = RemoteRef(Kind.EXAM, 7)
SERIES = RemoteRef(Kind.SERIES, 7)
DATASET = RemoteRef(Kind.DATASET, 9)
PATIENT = RemoteRef(Kind.PATIENT, 2)


@pytest.fixture
def server():
    return MemoryAnnotations()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def told():
    """What was said to have changed."""
    return []


@pytest.fixture
def service(server, clock, told):
    made = Annotations(
        server,
        freshness=Freshness(ttl_s=TTL_S, revalidate_wait_s=5.0),
        clock=clock,
        tag_changed=lambda tag: told.append(tag.label),
        object_changed=told.append,
    )
    yield made
    made.close()


# -- reading tags --------------------------------------------------------------------------------------


def test_the_tags_of_all_objects_of_a_project_cost_two_requests_and_none_until_the_ttl(
    service, server, clock
):
    good = server.define("good", P)
    server.give(EXAM, good)
    for number in range(100):
        assert service.tags(RemoteRef(Kind.SERIES, number), P) == ()
    assert service.tags(EXAM, P) == ("good",)
    assert server.calls == ["tags", f"tag_instances {P}"]
    server.give(SERIES, good)
    clock.advance(TTL_S - 0.001)
    assert service.tags(SERIES, P) == ()
    clock.advance(0.001)
    assert service.tags(SERIES, P) == ("good",)


def test_an_exam_and_a_series_with_one_number_are_not_confused(service, server):
    server.give(EXAM, server.define("good", P))
    assert service.tags(SERIES, P) == ()


def test_own_tags_of_the_user_count_in_every_project(service, server):
    mine = server.define("mine", None)
    server.give(EXAM, mine)
    server.give(EXAM, server.define("good", P))
    assert service.tags(EXAM, P) == ("mine", "good")
    assert server.calls == ["tags", f"tag_instances {P}", "tag_instances None"]


def test_a_patient_shows_the_tags_of_all_projects(service, server):
    server.give(PATIENT, server.define("left-handed", P))
    server.give(PATIENT, server.define("pilot", Q))
    assert service.tags(PATIENT, None) == service.tags(PATIENT, P) == ("left-handed", "pilot")


def test_labels_that_only_the_project_lists_are_found_there(service, server):
    """The list of all tags may leave out those of a project."""
    server.give(EXAM, server.define("good", P))
    everything = list(server.definitions)
    server.before = lambda call: setattr(server, "definitions", [] if call == "tags" else everything)
    assert service.tags(EXAM, P) == ("good",)


def test_a_server_without_lists_of_instances_is_asked_for_each_object(service, server):
    server.without.add("tag_instances")
    server.give(EXAM, server.define("good", P))
    assert service.tags(EXAM, P) == service.tags(EXAM, P) == ("good",)
    assert server.calls.count("tags_of exam 7") == 1
    assert service.known_tags(EXAM, P) == ("good",)


def test_memory_alone_is_asked_by_known_and_only_while_it_is_fresh(service, server, clock):
    assert service.known_tags(EXAM, P) is None
    assert service.known_rating(EXAM) is None
    assert service.known_parameter_sets(EXAM) is None
    assert server.calls == []
    service.tags(EXAM, P)
    service.rating(EXAM)
    service.parameter_sets(EXAM)
    assert service.known_tags(EXAM, P) == ()
    assert service.known_rating(EXAM) == 0
    assert service.known_parameter_sets(EXAM) == ()
    clock.advance(TTL_S)
    assert service.known_tags(EXAM, P) is None
    assert service.known_rating(EXAM) is None
    assert service.known_parameter_sets(EXAM) is None


def test_an_unreachable_server_leaves_what_was_known(service, server, clock):
    server.give(EXAM, server.define("good", P))
    service.tags(EXAM, P)
    clock.advance(TTL_S)
    server.fail_with = RemoteUnavailable("away")
    assert service.tags(EXAM, P) == ("good",)


# -- changing tags -------------------------------------------------------------------------------------


def test_setting_tags_adds_and_removes_and_is_seen_at_once_without_a_request(service, server, told):
    server.give(EXAM, server.define("bad", P))
    server.give(SERIES, server.definitions[0])
    server.define("good", P)
    assert service.tags(EXAM, P) == ("bad",)
    service.set_tags(EXAM, P, ["good"])
    assert server.labels(EXAM) == ["good"]
    assert server.labels(SERIES) == ["bad"]
    calls = len(server.calls)
    assert service.tags(EXAM, P) == ("good",)
    assert service.tags(SERIES, P) == ("bad",)
    assert len(server.calls) == calls
    assert sorted(told) == ["bad", "good"]


def test_an_unknown_label_is_made_in_the_project_once(service, server):
    service.add_tag(EXAM, P, "new")
    service.add_tag(SERIES, P, "new")
    assert [(tag.label, tag.project) for tag in server.definitions] == [("new", P)]
    assert server.labels(EXAM) == server.labels(SERIES) == ["new"]
    assert service.tags(EXAM, P) == ("new",)


def test_a_label_that_somebody_made_meanwhile_is_not_made_twice(service, server):
    service.tags(EXAM, P)  # memory knows of no such label
    server.define("new", P)
    service.add_tag(EXAM, P, "new")
    assert len(server.definitions) == 1


def test_many_threads_that_give_one_new_label_make_one_tag(service, server):
    together = threading.Barrier(8)

    def give(number):
        together.wait(10)
        service.add_tag(RemoteRef(Kind.DATASET, number), P, "new")

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(server.definitions) == 1
    assert len(server.instances) == 8


def test_of_two_tags_with_one_label_the_project_s_is_given_and_both_are_taken_away(service, server):
    own, of_project = server.define("good", None), server.define("good", P)
    service.add_tag(EXAM, P, "good")
    assert [one.tag for one in server.instances] == [of_project.id]
    server.give(EXAM, own)
    service.remove_tag(EXAM, P, "good")
    assert server.instances == []


def test_an_own_tag_is_given_rather_than_one_made_for_the_project(service, server):
    own = server.define("good", None)
    service.add_tag(EXAM, P, "good")
    assert [one.tag for one in server.instances] == [own.id]
    assert service.tags(EXAM, P) == ("good",)


def test_without_a_project_no_tag_is_made(service, server):
    with pytest.raises(PermissionDenied, match="projects/"):
        service.add_tag(PATIENT, None, "new")
    assert server.definitions == []


def test_a_refused_new_tag_says_why(service, server):
    server.before = lambda call: setattr(
        server, "fail_with", PermissionDenied("no role") if call == "create_tag" else None
    )
    with pytest.raises(PermissionDenied, match=r"no tag 'new'.*no role"):
        service.add_tag(EXAM, P, "new")


def test_a_label_whose_tag_somebody_has_deleted_is_made_anew_after_one_failure(service, server):
    old = server.define("good", P)
    assert service.tags(EXAM, P) == ()
    server.definitions.remove(old)
    server.before = lambda call: setattr(
        server, "fail_with", NotFound("no such tag") if call == "tag" and not server.definitions else None
    )
    with pytest.raises(NotFound):
        service.add_tag(EXAM, P, "good")
    service.add_tag(EXAM, P, "good")
    (new,) = server.definitions
    assert new.id != old.id and service.tags(EXAM, P) == ("good",)


def test_a_tag_is_taken_away_by_the_number_it_has_now(service, server):
    """Numbers of instances may pass to others: a remembered one could be another object's tag."""
    good = server.define("good", P)
    first = server.give(EXAM, good)
    assert service.tags(EXAM, P) == ("good",)
    server.instances.remove(first)
    server.instances.append(type(first)(first.id, good.id, SERIES))
    server.give(EXAM, good)
    service.remove_tag(EXAM, P, "good")
    assert server.labels(EXAM) == []
    assert server.labels(SERIES) == ["good"]


def test_a_tag_that_somebody_takes_away_at_the_same_time_is_gone_and_no_error(service, server):
    server.give(EXAM, server.define("good", P))
    server.before = lambda call: server.instances.clear() if call == "remove_tag_instance" else None
    service.remove_tag(EXAM, P, "good")
    assert service.tags(EXAM, P) == ()


def test_a_tag_that_can_not_be_taken_away_is_an_error(service, server):
    server.give(EXAM, server.define("good", P))
    server.tag_instances = lambda project: []
    with pytest.raises(NotPermitted, match="good"):
        service.remove_tag(EXAM, P, "good")


def test_after_a_change_that_failed_the_server_is_asked_again(service, server):
    server.define("good", P)
    assert service.tags(EXAM, P) == ()

    def lose_answer(call):
        if call == "tag":
            server.give(EXAM, server.definitions[0])
            raise RemoteUnavailable("lost")

    server.before = lose_answer
    with pytest.raises(RemoteUnavailable):
        service.add_tag(EXAM, P, "good")
    assert service.tags(EXAM, P) == ("good",)


@pytest.mark.parametrize("label", ["", " ", " x", "a\nb", "a\0b", "\udcff"])
def test_what_can_be_no_label_is_refused_before_the_server_is_asked(service, server, label):
    with pytest.raises(BadCommand):
        service.set_tags(EXAM, P, ["fine", label])
    with pytest.raises(BadCommand):
        service.add_tag(EXAM, P, label)
    assert server.calls == []


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", []),
        ("a", ["a"]),
        (" a , b ,,a", ["a", "b"]),
        ("brain, left,a", ["brain, left", "a"]),
        ("a,brain, left", ["a", "brain, left"]),
        ("brain,left", ["brain", "left"]),
        ("x,y,z", ["x,y,z"]),
        ("x,y", ["x,y"]),
    ],
)
def test_a_label_with_commas_that_is_known_survives_the_list(text, labels):
    assert split_labels(text, ["brain, left", "x,y", "x,y,z", "other"]) == labels


# -- ratings -------------------------------------------------------------------------------------------


def test_a_rating_is_asked_for_once_and_what_we_set_is_known(service, server):
    assert service.rating(EXAM) == service.rating(EXAM) == 0
    service.rate(EXAM, 4)
    assert service.rating(EXAM) == 4
    service.rate(EXAM, 0)
    assert service.rating(EXAM) == 0
    assert server.ratings == {}
    assert server.calls == ["rating exam 7", "rate exam 7 4", "rate exam 7 0"]


@pytest.mark.parametrize("value", [-1, 6])
def test_other_ratings_are_refused_before_the_server_is_asked(service, server, value):
    with pytest.raises(BadCommand):
        service.rate(EXAM, value)
    assert server.calls == []


def test_after_a_rating_that_failed_the_server_is_asked_again(service, server):
    service.rate(EXAM, 2)
    server.fail_with = RemoteUnavailable("lost")
    with pytest.raises(RemoteUnavailable):
        service.rate(EXAM, 3)
    server.fail_with = None
    assert service.rating(EXAM) == 2
    assert server.calls[-1] == "rating exam 7"


def test_what_the_server_calls_wrong_is_a_bad_command(service, server):
    server.fail_with = ProtocolError("value: no", status=400)
    with pytest.raises(BadCommand, match="no"):
        service.rate(EXAM, 3)
    server.fail_with = ProtocolError("HTML")
    with pytest.raises(ProtocolError):
        service.rate(EXAM, 3)


# -- parameters ----------------------------------------------------------------------------------------

SCANNER = [{"Name": "TR", "Value": 1.5, "ID": 1253}, {"Name": "Matrix", "Value": [2, 4]}]


def test_the_first_own_parameter_makes_the_set_of_the_vendor_s_connector(service, server):
    server.add_set(EXAM, "DICOM", SCANNER, is_read_only=True)
    service.set_parameter(EXAM, "quality", 3)
    service.set_parameter(EXAM, "note", "ok")
    assert server.values(EXAM, "User Parameters") == {"quality": 3, "note": "ok"}
    calls = len(server.calls)
    assert [one.name for one in service.parameter_sets(EXAM)] == ["DICOM", "User Parameters"]
    assert service.parameter_sets(EXAM)[1].parameters == tuple(server.sets[EXAM][1].parameters)
    assert len(server.calls) == calls


def test_changing_one_parameter_keeps_the_others_also_those_somebody_has_just_added(service, server):
    own = server.add_set(EXAM, "Mine", [{"Name": "a", "Value": 1, "NameText": "A"}], is_read_only=False)
    service.parameter_sets(EXAM)
    server.replace_parameters(own.id, "Mine", [*own.parameters, {"Name": "b", "Value": 2}])
    service.set_parameter(EXAM, "a", 5)
    assert list(server.sets[EXAM][0].parameters) == [
        {"Name": "a", "Value": 5, "NameText": "A"},
        {"Name": "b", "Value": 2},
    ]


def test_threads_that_set_parameters_of_one_object_lose_none(service, server):
    server.add_set(EXAM, "Mine", [], is_read_only=False)
    together = threading.Barrier(8)

    def give(number):
        together.wait(10)
        service.set_parameter(EXAM, f"p{number}", number, set_name="Mine")

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert server.values(EXAM, "Mine") == {f"p{number}": number for number in range(8)}


def test_what_came_with_the_data_does_not_change(service, server):
    server.add_set(EXAM, "DICOM", SCANNER, is_read_only=True)
    for change in (
        lambda: service.set_parameter(EXAM, "TR", 2),
        lambda: service.set_parameter(EXAM, "new", 2, set_name="DICOM"),
        lambda: service.remove_parameter(EXAM, "TR"),
        lambda: service.replace_set(EXAM, "DICOM", {}),
        lambda: service.remove_set(EXAM, "DICOM"),
    ):
        with pytest.raises(NotPermitted, match="came with the data"):
            change()
    assert set(server.calls) == {"parameter_sets exam 7"}


def test_a_set_is_replaced_made_and_removed(service, server):
    service.replace_set(EXAM, "Fit", {"a": 1, "b": [1, 2]})
    assert server.values(EXAM, "Fit") == {"a": 1, "b": [1, 2]}
    service.replace_set(EXAM, "Fit", [{"Name": "c", "Value": "x", "NameText": "C"}])
    service.replace_set(EXAM, "Fit", {"c": "y"})
    assert list(server.sets[EXAM][0].parameters) == [{"Name": "c", "Value": "y", "NameText": "C"}]
    service.remove_set(EXAM, "Fit")
    assert server.sets[EXAM] == []
    assert service.parameter_sets(EXAM) == ()
    with pytest.raises(NotFound):
        service.remove_set(EXAM, "Fit")


def test_a_set_that_somebody_removed_meanwhile_is_not_made_again(service, server):
    one = server.add_set(EXAM, "Fit", [], is_read_only=False)
    server.sets[EXAM].clear()
    with pytest.raises(NotFound):
        service.replace_set(EXAM, "Fit", {"a": 1}, set_id=one.id)
    assert server.sets[EXAM] == []


@pytest.mark.parametrize(
    "said",
    [
        "x", 3, None, {"a": None}, {"a": {"b": 1}}, {"": 1}, {"a": [None]}, {"a": float("nan")}, [1],
        [{"Name": "a"}], [{"Value": 1}], [{"Name": 3, "Value": 1}], {"a": "\udcff"}, {"\udcff": 1},
    ],
)  # fmt: skip
def test_what_is_no_set_of_parameters_is_refused_before_the_server_is_asked(service, server, said):
    with pytest.raises(BadCommand):
        service.replace_set(EXAM, "Fit", said)
    assert server.calls == []


def test_a_parameter_is_removed_and_the_set_stays(service, server):
    server.add_set(EXAM, "Mine", [{"Name": "a", "Value": 1}], is_read_only=False)
    service.remove_parameter(EXAM, "a")
    assert server.values(EXAM, "Mine") == {}
    with pytest.raises(NoSuchXattr):
        service.remove_parameter(EXAM, "a")


def test_the_difference_of_two_objects_is_that_of_their_parameters(service, server):
    server.add_set(EXAM, "A", [{"Name": "x", "Value": 1}, {"Name": "y", "Value": 2}], is_read_only=True)
    server.add_set(DATASET, "B", [{"Name": "y", "Value": 3}, {"Name": "z", "Value": True}], is_read_only=True)
    assert service.difference(EXAM, DATASET) == {
        "only_in_first": {"x": 1},
        "only_in_second": {"z": True},
        "different": {"y": [2, 3]},
    }


# -- locks and upkeep ----------------------------------------------------------------------------------


def test_exams_are_locked_and_others_are_not(service, server, told):
    service.set_locked(EXAM, True)
    assert server.locked == {7: True}
    assert told == [EXAM]
    with pytest.raises(NotPermitted):
        service.set_locked(SERIES, True)


def test_a_refresh_forgets_everything(service, server):
    service.tags(EXAM, P)
    service.rating(EXAM)
    service.parameter_sets(EXAM)
    service.refresh()
    assert service.known_tags(EXAM, P) is service.known_rating(EXAM) is None
    assert service.known_parameter_sets(EXAM) is None


def test_an_object_that_is_gone_says_so(service, server):
    server.fail_with = NotFound("exam 7 is gone")
    with pytest.raises(NotFound):
        service.rating(EXAM)
    with pytest.raises(NotFound):
        service.add_tag(EXAM, P, "x")


def test_a_turn_is_given_back_after_a_failure_and_does_not_hold_up_other_things():
    turns = Turns()
    with pytest.raises(KeyError), turns.of("a"):
        raise KeyError
    with turns.of("a"), turns.of("b"):
        pass
