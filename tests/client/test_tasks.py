"""Tasks are read from forms and from YAML, saved whole, and run; a run is looked at as the server tells of it."""

from __future__ import annotations

import pytest

from agorafs.client.records import Kind, RemoteRef
from agorafs.client.task_records import Task, TaskInput, TimelineItem, TimelineState, read_yml
from agorafs.client.tasks import object_input
from agorafs.errors import NotFound, ProtocolError, RemoteUnavailable
from tests.client.sent import sent
from tests.support.http_server import answer, answer_json, vanish

INPUT = {
    "id": 2, "name": "input", "key": "in1", "order": 0, "description": "", "required": True, "type": 3,
    "data_set_type": 100000, "filename_regex": ".*\\.m", "min": None, "max": None, "select_values": None,
}  # fmt: skip
FORM = {
    "id": 2, "name": "notepad", "inputs": [INPUT], "outputs": [], "members": [], "container_name": "",
    "execute_template": "notepad {{ inputs.in1.file.path }}", "host": None, "new_in_9": {"a": [1]},
}  # fmt: skip
SCRIPT = {"id": 2, "name": "Bids", "yml": {"inputs": {"exam": {"type": "study"}}}, "project": 5}
ITEM = {"id": 7, "data": {"state": 6}}


def the_input(**fields):
    """Return how a form's only input is read."""
    return Task.from_json({"id": 1, "inputs": [{"key": "a", **fields}]}, is_script=False).inputs[0]


# -- definitions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_script", "path"),
    [(False, "/api/v1/taskdefinition/2/"), (True, "/api/v2/taskdefinition_yaml/2/")],
)
def test_the_two_sorts_of_tasks_have_addresses_and_kinds_of_their_own(server, client, is_script, path):
    server.on(path, answer_json(SCRIPT if is_script else FORM))
    task = client.tasks.task(2, is_script=is_script)
    assert task.ref == RemoteRef(Kind.SCRIPT_TASK if is_script else Kind.TASK, 2)
    assert task.raw == (SCRIPT if is_script else FORM)
    assert client.describe(task.ref) == task.raw


def test_another_task_than_was_asked_for_is_a_protocol_error(server, client):
    server.on("/api/v1/taskdefinition/3/", answer_json(FORM))
    with pytest.raises(ProtocolError, match="task 2"):
        client.tasks.task(3, is_script=False)


def test_a_projects_tasks_are_those_of_both_sorts_by_name(server, client):
    server.on("/api/v2/project/5/task/", answer_json({"count": 1, "next": None, "results": [FORM]}))
    server.on("/api/v2/project/5/taskdefinition_yaml/", answer_json([SCRIPT]))
    tasks = client.tasks.project_tasks(5)
    assert [(task.name, task.id, task.is_script, task.project) for task in tasks] == [
        ("Bids", 2, True, 5),
        ("notepad", 2, False, 5),
    ]


def test_a_server_without_script_tasks_has_the_others(server, client):
    server.on("/api/v2/project/5/task/", answer_json([FORM]))
    assert [task.name for task in client.tasks.project_tasks(5)] == ["notepad"]


def test_a_project_that_is_not_there_has_no_tasks(server, client):
    server.on("/api/v2/project/5/taskdefinition_yaml/", answer_json([]))
    with pytest.raises(NotFound):
        client.tasks.project_tasks(5)


def test_an_input_of_a_form_is_what_the_server_says():
    (found,) = Task.from_json(FORM, is_script=False).inputs
    assert found == TaskInput("in1", "input", "dataset", True, None, 100000, ".*\\.m", None, None, (), INPUT)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (1, "exam"), (2, "series"), (3, "dataset"), (4, "file"), (5, "string"), (6, "integer"), (7, "float"),
        (8, "select"), (9, "folder"), (10, "static"), (11, "bool"), (0, "string"), (99, "string"), (None, "string"),
    ],
)  # fmt: skip
def test_numbers_of_types_become_words(number, word):
    assert the_input(type=number).type == word


def test_inputs_come_in_the_order_of_the_form():
    inputs = [{"key": "b", "order": 1}, {"key": "a", "order": 0}, {"key": "c", "order": 2}]
    task = Task.from_json({"id": 1, "name": "t", "inputs": inputs}, is_script=False)
    assert [one.key for one in task.inputs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (["a", "b"], ("a", "b")),
        ([1, 2.5], (1, 2.5)),
        ([{"value": "a", "label": "The first"}, {"name": "b"}, {"x": 1}], ("a", "b", {"x": 1})),
        ({"a": "The first", "b": "The second"}, ("a", "b")),
        ("a, b,,c\nd", ("a", "b", "c", "d")),
        (None, ()),
        (7, ()),
    ],
)
def test_what_can_be_selected_is_found_in_every_shape(values, options):
    assert the_input(type=8, select_values=values).options == options


@pytest.mark.parametrize(
    ("value", "limit"), [(3, 3), (0, 0), (2.5, 2.5), ("4", 4.0), ("", None), ("x", None), (None, None), (True, None)]
)  # fmt: skip
def test_limits_are_numbers_or_none(value, limit):
    found = the_input(min=value, max=value)
    assert (found.minimum, found.maximum) == (limit, limit)


@pytest.mark.parametrize(
    ("fields", "required"), [({}, True), ({"required": True}, True), ({"required": False}, False)]
)
@pytest.mark.parametrize("is_script", [False, True])
def test_an_input_is_required_unless_the_task_says_otherwise(fields, required, is_script):
    if is_script:
        task = Task.from_json({"id": 1, "yml": {"inputs": {"a": fields}}}, is_script=True)
        assert task.inputs[0].required is required
    else:
        assert the_input(**fields).required is required


YML = """
stages: [one]
inputs:
  exam: {type: study}
  data: {type: dataset, dataset_type: 300, required: false}
  size: {type: integer, default: 512, min: 1, max: 1024}
  mode: {type: select, options: [fast, slow]}
  short: string
run: {stage: one, script: [echo]}
"""


@pytest.mark.parametrize("is_text", [False, True])
def test_a_script_tasks_inputs_are_read_from_its_yaml(is_text):
    yml = YML if is_text else read_yml(YML)
    exam, data, size, mode, short = Task.from_json({"id": 1, "yml": yml}, is_script=True).inputs
    assert (exam.key, exam.type, exam.required) == ("exam", "exam", True)
    assert (data.type, data.dataset_type, data.required) == ("dataset", 300, False)
    assert (size.type, size.default, size.minimum, size.maximum) == ("integer", 512, 1, 1024)
    assert (mode.type, mode.options) == ("select", ("fast", "slow"))
    assert (short.key, short.type) == ("short", "string")


@pytest.mark.parametrize(
    "yml",
    [
        "a: [",
        "- a\n- b",
        "words",
        "!!python/object/apply:os.getcwd []",
        "[" * 5000,
        7,
        {"inputs": [1]},
        None,
        "",
    ],
)
def test_yaml_that_can_not_be_read_gives_a_task_without_inputs(yml):
    assert Task.from_json({"id": 1, "name": "x", "yml": yml}, is_script=True).inputs == ()


@pytest.mark.parametrize(
    "yml", ["a: [", "- a", "[" * 5000, 7, "2024-99-99", "!!bool x", "!!timestamp x", "!!int x", "{[]: 1}"]
)
def test_what_is_wrong_with_yaml_is_said(yml):
    with pytest.raises(ValueError, match="YAML"):
        read_yml(yml)


@pytest.mark.parametrize(
    ("default", "sent_as"),
    [("2024-01-02", "2024-01-02"), (".inf", "inf"), ("[1, a, null]", [1, "a", None]), ("&a [*a]", "[[...]]")],
)
def test_a_default_can_be_sent_as_it_is(default, sent_as):
    yml = f"inputs: {{a: {{type: string, default: {default}}}}}"
    assert Task.from_json({"id": 1, "yml": yml}, is_script=True).inputs[0].default == sent_as


@pytest.mark.parametrize("inputs", [{"a": 1}, ["a"], "a"])
def test_inputs_of_another_shape_are_a_protocol_error(inputs):
    with pytest.raises(ProtocolError, match="inputs"):
        Task.from_json({"id": 1, "inputs": inputs}, is_script=False)


# -- changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "method", "path", "body", "answered"),
    [
        (
            lambda c: c.create(FORM), "POST", "/api/v1/taskdefinition/",
            {**FORM, "id": None, "inputs": [{**INPUT, "id": None}]}, FORM,
        ),
        (
            lambda c: c.create(SCRIPT, is_script=True), "POST", "/api/v2/taskdefinition_yaml/",
            {**SCRIPT, "id": None}, SCRIPT,
        ),
        (lambda c: c.save(2, FORM, is_script=False), "PUT", "/api/v1/taskdefinition/2/", FORM, FORM),
        (
            lambda c: c.save(2, {"name": "x"}, is_script=True), "PUT", "/api/v2/taskdefinition_yaml/2/",
            {"name": "x", "id": 2}, SCRIPT,
        ),
        (lambda c: c.delete(2, is_script=False), "DELETE", "/api/v1/taskdefinition/2/", "", None),
        (lambda c: c.delete(2, is_script=True), "DELETE", "/api/v2/taskdefinition_yaml/2/", "", None),
        (lambda c: c.import_into(5, [FORM]), "POST", "/api/v2/project/5/task/imp/", [FORM], {}),
        (lambda c: c.copy_to(2, 5), "POST", "/api/v2/project/5/task/2/copy/", {}, {}),
        (lambda c: c.move_to(2, 5), "POST", "/api/v2/project/5/task/2/move/", {}, {}),
        (
            lambda c: c.run(
                2,
                RemoteRef(Kind.FOLDER, 24),
                {"ds": object_input(RemoteRef(Kind.DATASET, 57)), "size": 1024},
                is_script=False,
            ),
            "POST", "/api/v1/taskdefinition/2/run/",
            {
                "target": {"object_id": 24, "object_type": "folder"},
                "inputs": {"ds": {"object_id": 57, "object_type": "dataset"}, "size": 1024},
            },
            ITEM,
        ),
        (
            lambda c: c.run(2, None, {"s": object_input(RemoteRef(Kind.SERIES, 6))}, is_script=True),
            "POST", "/api/v2/taskdefinition_yaml/2/run/",
            {"target": None, "inputs": {"s": {"object_id": 6, "object_type": "series"}}}, ITEM,
        ),
    ],
)  # fmt: skip
def test_a_change_is_sent_as_the_vendors_programs_send_it(
    server, client, change, method, path, body, answered
):
    """What the task has besides the fields known here is sent back as it came."""
    server.on(path, answer(b"", 204) if answered is None else answer_json(answered))
    change(client.tasks)
    assert sent(server) == (method, path, body)
    assert len(server.seen) == 1


@pytest.mark.parametrize("answered", [answer(b"", 200), answer_json({}), answer_json("saved")])
def test_a_task_is_read_again_where_saving_does_not_answer_with_it(server, client, answered):
    server.on("/api/v1/taskdefinition/2/", answered, answer_json({**FORM, "name": "as saved"}))
    assert client.tasks.save(2, FORM, is_script=False).name == "as saved"
    assert [request.method for request in server.seen] == ["PUT", "GET"]


def test_an_exported_task_is_what_the_server_gives(server, client):
    server.on("/api/v2/taskdefinition_yaml/2/export/", answer_json({"name": "x", "parts": [1]}))
    assert client.tasks.export(2, is_script=True) == {"name": "x", "parts": [1]}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.create(FORM), "/api/v1/taskdefinition/"),
        (lambda c: c.import_into(5, {}), "/api/v2/project/5/task/imp/"),
        (lambda c: c.copy_to(2, 5), "/api/v2/project/5/task/2/copy/"),
        (lambda c: c.run(2, None, {}, is_script=False), "/api/v1/taskdefinition/2/run/"),
    ],
)
def test_what_would_be_there_twice_is_asked_for_once(server, client, change, path):
    server.on(path, vanish())
    with pytest.raises(RemoteUnavailable):
        change(client.tasks)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.save(2, FORM, is_script=False), "/api/v1/taskdefinition/2/"),
        (lambda c: c.move_to(2, 5), "/api/v2/project/5/task/2/move/"),
        (lambda c: c.delete(2, is_script=False), "/api/v1/taskdefinition/2/"),
    ],
)
def test_what_does_no_harm_twice_is_sent_again_when_its_answer_is_lost(server, client, change, path):
    server.on(path, vanish(), answer_json(FORM))
    change(client.tasks)
    assert len(server.seen) == 2


# -- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "state", "is_over", "error"),
    [
        ({"data": {"state": 0}}, TimelineState.IDLE, False, ""),
        ({"data": {"state": 1}}, TimelineState.STARTED, False, ""),
        ({"data": {"state": 2}}, TimelineState.FINISHED, True, ""),
        ({"data": {"state": 3, "error": {"message": "no disk"}}}, TimelineState.ERROR, True, "no disk"),
        ({"data": {"state": 3}, "error": "no disk"}, TimelineState.ERROR, True, "no disk"),
        ({"data": {"state": 3, "error": "no disk"}}, TimelineState.ERROR, True, "no disk"),
        ({"data": {"state": 4}}, TimelineState.CANCELLING, False, ""),
        ({"data": {"state": 5}}, TimelineState.CANCELLED, True, ""),
        ({"data": {"state": 6}}, TimelineState.QUEUED, False, ""),
        ({"data": {"state": 7}}, TimelineState.STARTED, False, ""),
        ({"data": {"state": "2"}}, TimelineState.FINISHED, True, ""),
        ({"data": {"state": []}}, TimelineState.STARTED, False, ""),
        ({"state": 2, "data": None, "error": None}, TimelineState.FINISHED, True, ""),
        ({}, TimelineState.IDLE, False, ""),
    ],
)
def test_a_run_is_as_far_as_the_server_says(server, client, answered, state, is_over, error):
    """A state that nobody knows is no end: those who wait would take what is not there."""
    server.on("/api/v2/timeline/7/", answer_json({"id": 7, **answered}))
    item = client.tasks.timeline(7)
    assert (item.state, item.state.is_over, item.error) == (state, is_over, error)
    assert item.raw == {"id": 7, **answered}


def test_what_a_run_made_is_known_as_far_as_the_server_names_kinds():
    related = [
        {"id": 5, "content_type": "exam"}, {"object_id": 6, "id": 99, "object_type": "serie"}, {"id": 7, "type": 4},
        {"id": 8}, {"content_type": "exam"}, "x",
    ]  # fmt: skip
    item = TimelineItem.from_json({"id": 7, "data": {"state": 2, "related_objects": related}})
    assert item.related == (RemoteRef(Kind.EXAM, 5), RemoteRef(Kind.SERIES, 6), RemoteRef(Kind.DATASET, 7))


@pytest.mark.parametrize("answered", [{"id": 8, "data": {"state": 2}}, {"data": {"state": 2}}, [], "x"])
def test_another_item_or_none_is_a_protocol_error(server, client, answered):
    server.on("/api/v2/timeline/7/", answer_json(answered))
    with pytest.raises(ProtocolError):
        client.tasks.timeline(7)
