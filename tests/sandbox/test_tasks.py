"""Tasks and hosts are made, changed, copied, moved, exported and imported; the connector does it where it can."""

from __future__ import annotations

import json

import pytest
from gtagora.exception import AgoraException
from gtagora.models.task import ScriptTask, Task, TaskType

from tests.sandbox.conftest import ProjectIds
from tests.support.sandbox import SandboxProcess

DATASET_INPUT = {"id": None, "key": "ds", "type": 3, "name": "Dataset", "order": 0}
YAML = """\
inputs:
  study: {type: study}
  size: {type: integer, required: false, default: 3}
sum:
  stage: sum
  script_type: command
  script: checksum
"""


def make_task(sandbox, project, name="Checksum", **fields):
    body = {"name": name, "project": project.id, "inputs": [dict(DATASET_INPUT)], **fields}
    return sandbox.post("v1/taskdefinition/", body)


def make_script(sandbox, project, name="Script", yml=YAML, **fields):
    return sandbox.post(
        "v2/taskdefinition_yaml/", {"name": name, "project": project.id, "yml": yml, **fields}
    )


@pytest.fixture
def other(sandbox):
    body = sandbox.post("v2/project/", {"name": "other", "description": ""})
    return ProjectIds(body["id"], body["root_folder"], "other")


@pytest.fixture
def observer(sandbox, project):
    """The observer is a member of the project, as an observer."""
    ids = {user["username"]: user["id"] for user in sandbox.get("v1/user/?limit=1000")["results"]}
    sandbox.post("v2/projectmembership/", {"project": project.id, "user": ids["observer"], "role": 4})
    return "observer"


def names(tasks):
    return [task["name"] for task in tasks["results"]]


# -- the two kinds -----------------------------------------------------------------------------------


def test_the_connector_creates_saves_and_deletes_a_task(agora, project):
    task = Task(http_client=agora.http_client)
    task.name, task.project, task.inputs = "Sum/of files", project.id, [dict(DATASET_INPUT)]
    task.execute_template = "checksum {{ inputs.ds.file.path }}"
    created = task.create()
    again = agora.get_task(created.id)
    assert (again.name, again.project, again.execute_template) == (
        "Sum/of files",
        project.id,
        "checksum {{ inputs.ds.file.path }}",
    )
    again.name = "Sum"
    again.inputs.append({"id": None, "key": "size", "type": 6, "name": "Size"})
    again.save()
    saved = agora.get_task(created.id)
    assert (saved.name, [entry["key"] for entry in saved.inputs]) == ("Sum", ["ds", "size"])
    saved.delete()
    with pytest.raises(AgoraException):
        agora.get_task(created.id)


def test_a_new_task_has_all_fields_of_a_real_one(sandbox, project):
    task = make_task(sandbox, project)
    assert task.keys() >= {
        "id", "name", "inputs", "outputs", "members", "container_name", "container_options", "execute_template",
        "execute_version", "success_exit_code", "parse_output_for_error", "owner", "host", "host_id", "project",
        "mount_volumes", "task_target", "use_docker", "environment_variables", "context_help",
    }  # fmt: skip
    assert "yml" not in task  # clients take what has one for a script task
    (entry,) = task["inputs"]
    assert entry.keys() >= {
        "id", "name", "key", "description", "required", "order", "type", "data_set_type", "filename_regex",
        "min", "max", "select_values",
    }  # fmt: skip
    assert isinstance(entry["id"], int)


def test_a_change_keeps_the_fields_it_does_not_name_and_the_ids_of_inputs(sandbox, project):
    task = make_task(sandbox, project, from_another_version={"a": [1]}, context_help="help")
    changed = sandbox.api(
        "PUT",
        f"v1/taskdefinition/{task['id']}/",
        json={"name": "New", "inputs": task["inputs"], "project": 1},
    ).json()
    assert changed == {**task, "name": "New"}
    assert sandbox.get(f"v1/taskdefinition/{task['id']}/") == changed


def test_an_input_does_not_take_the_id_of_another_tasks_input(sandbox, project):
    first = make_task(sandbox, project)
    second = make_task(sandbox, project, inputs=first["inputs"])
    assert first["inputs"][0]["id"] != second["inputs"][0]["id"]


def test_both_kinds_of_a_project_are_listed_and_found_by_the_connector(agora, sandbox, project):
    make_task(sandbox, project, "b")
    script = make_script(sandbox, project, "A")
    tasks = agora.get_project(project.id).get_tasks()
    assert [(task.name, type(task)) for task in tasks] == [("A", ScriptTask), ("b", Task)]
    found = agora.get_task(script["id"], TaskType.SCRIPT)
    assert [(entry["key"], entry["type"], entry["required"]) for entry in found.inputs] == [
        ("study", 1, True),
        ("size", 6, False),
    ]
    assert "b" in names(sandbox.get("v1/taskdefinition/?limit=1000"))
    assert "A" in names(sandbox.get("v2/taskdefinition_yaml/?limit=1000"))


def test_ui_tasks_and_script_tasks_have_numbers_of_their_own(tmp_path):
    with SandboxProcess(tmp_path / "data") as sandbox:
        mine = ProjectIds(sandbox.get("v2/project/myagora/")["id"], 0, "")
        task, script = make_task(sandbox, mine), make_script(sandbox, mine)
        assert task["id"] == script["id"] == 1
        assert sandbox.api("DELETE", "v2/taskdefinition_yaml/1/").status_code == 204
        assert sandbox.get("v1/taskdefinition/1/") == task
        sandbox.kill()
        sandbox.start()
        assert sandbox.get("v1/taskdefinition/1/") == task
        assert sandbox.api("GET", "v2/taskdefinition_yaml/1/").status_code == 404


def test_the_definition_of_a_script_task_stays_text_or_object_as_it_came(sandbox, agora, project):
    as_object = {"inputs": {"n": {"type": "integer"}}, "j": {"script": "checksum"}}
    assert make_script(sandbox, project)["yml"] == YAML
    script = make_script(sandbox, project, "second", as_object, unknown=1)
    assert (script["yml"], script["unknown"]) == (as_object, 1)
    task = agora.get_task(script["id"], TaskType.SCRIPT)
    task.name = "renamed"
    task.save()
    assert sandbox.get(f"v2/taskdefinition_yaml/{script['id']}/") == {**script, "name": "renamed"}


def test_a_task_without_a_project_belongs_to_my_agora(sandbox):
    task = sandbox.post("v1/taskdefinition/", {"name": "mine"}, user="scientist")
    assert task["project"] == sandbox.get("v2/project/myagora/", user="scientist")["id"]
    assert sandbox.api("GET", f"v1/taskdefinition/{task['id']}/").status_code == 404


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": " "}, "name"),
        ({"name": None}, "name"),
        ({"inputs": "ds"}, "inputs"),
        ({"inputs": [{"key": "a", "type": 12}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": True}]}, "inputs"),
        ({"inputs": [{"key": "", "type": 5}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": 5}, {"key": "a", "type": 6}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": 3, "filename_regex": "("}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": 3, "data_set_type": "DICOM"}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": 6, "min": "low"}]}, "inputs"),
        ({"inputs": [{"key": "a", "type": 8, "select_values": 5}]}, "inputs"),
        ({"outputs": [1]}, "outputs"),
    ],
)
def test_a_task_that_nobody_could_run_is_refused_and_changes_nothing(sandbox, project, fields, wrong):
    task = make_task(sandbox, project)
    for method, path in (("POST", "v1/taskdefinition/"), ("PUT", f"v1/taskdefinition/{task['id']}/")):
        answer = sandbox.api(method, path, json={"name": "x", "project": project.id, **fields})
        assert (answer.status_code, list(answer.json())) == (400, [wrong])
    assert sandbox.get(f"v2/project/{project.id}/task/")["results"] == [task]


@pytest.mark.parametrize(
    "yml",
    [None, "a: [", "- 1", 7, "inputs: [1]", "inputs: {a: 1}", "inputs: {a: {type: exams}}", "x" * (2 << 20)],
)
def test_a_script_task_that_cannot_be_read_is_refused(sandbox, project, yml):
    answer = sandbox.api(
        "POST", "v2/taskdefinition_yaml/", json={"name": "x", "project": project.id, "yml": yml}
    )
    assert (answer.status_code, list(answer.json())) == (400, ["yml"])
    assert sandbox.get(f"v2/project/{project.id}/taskdefinition_yaml/")["count"] == 0


# -- between projects --------------------------------------------------------------------------------


def test_the_connector_copies_and_moves_a_task_to_another_project(agora, sandbox, project, other):
    host = sandbox.post(f"v2/project/{project.id}/host/", {"name": "cluster"})
    task = make_task(sandbox, project, host=host["id"], extra="kept")
    agora.get_task(task["id"]).copy_to_project(other.id)
    (copy,) = sandbox.get(f"v2/project/{other.id}/task/")["results"]
    assert {**copy, "inputs": 0} == {
        **task, "id": copy["id"], "project": other.id, "host": None, "inputs": 0
    }  # fmt: skip
    assert copy["id"] != task["id"] and copy["inputs"][0]["id"] != task["inputs"][0]["id"]
    agora.get_task(task["id"]).move_to_project(other.id)
    assert sandbox.get(f"v2/project/{project.id}/task/")["count"] == 0
    assert sandbox.get(f"v1/taskdefinition/{task['id']}/") == {**task, "project": other.id}


def test_the_connector_exports_a_task_and_imports_it(agora, sandbox, project, other, tmp_path):
    task = make_task(sandbox, project, "Sum/of files", unknown=[1, 2])
    agora.get_task(task["id"]).export(file=tmp_path / "task.json")
    exported = json.loads((tmp_path / "task.json").read_text())
    assert exported["name"] == "Sum/of files" and "project" not in exported and "context_help" not in exported
    agora.get_project(other.id).import_tasks(tmp_path / "task.json")
    (imported,) = sandbox.get(f"v2/project/{other.id}/task/")["results"]
    assert (imported["name"], imported["unknown"], imported["inputs"][0]["key"]) == (
        "Sum/of files",
        [1, 2],
        "ds",
    )
    assert imported["id"] != task["id"]


def test_a_list_of_exported_tasks_is_imported_as_a_whole_or_not_at_all(
    agora, sandbox, project, other, tmp_path
):
    exported = [
        sandbox.get(f"v1/taskdefinition/{make_task(sandbox, project)['id']}/export/"),
        sandbox.get(f"v2/taskdefinition_yaml/{make_script(sandbox, project)['id']}/export/"),
    ]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([*exported, {"name": ""}]))
    with pytest.raises(AgoraException):
        agora.get_project(other.id).import_tasks(path)
    assert agora.get_project(other.id).get_tasks() == []
    path.write_text(json.dumps(exported))
    agora.get_project(other.id).import_tasks(path)
    assert [(task.name, type(task)) for task in agora.get_project(other.id).get_tasks()] == [
        ("Checksum", Task),
        ("Script", ScriptTask),
    ]
    assert [type(task) for task in agora.load_tasks(path)] == [Task, ScriptTask]


def test_the_connector_copies_and_moves_hosts(agora, sandbox, project, other):
    made = sandbox.post(f"v2/project/{project.id}/host/", {"id": 99, "name": "cluster", "queue": {"long": 2}})
    assert (made["name"], made["queue"], made["project"]) == ("cluster", {"long": 2}, project.id)
    assert made["id"] != 99
    (host,) = agora.get_project(project.id).get_hosts()
    host.copy_to_project(other.id)
    (copy,) = sandbox.get(f"v2/project/{other.id}/host/")["results"]
    assert copy == {**made, "id": copy["id"], "project": other.id}
    host.move_to_project(other.id)
    assert agora.get_project(project.id).get_hosts() == []
    assert [found.id for found in agora.get_project(other.id).get_hosts()] == [made["id"], copy["id"]]
    assert {made["id"], copy["id"]} <= {h["id"] for h in sandbox.get("v1/host/?limit=1000")["results"]}


def test_the_connector_copies_the_settings_of_a_project(agora, sandbox, project, other):
    make_task(sandbox, project)
    sandbox.post(f"v2/project/{project.id}/host/", {"name": "cluster"})
    agora.get_project(other.id).copy_settings_from(agora.get_project(project.id))
    assert names(sandbox.get(f"v2/project/{other.id}/task/")) == ["Checksum"]
    assert names(sandbox.get(f"v2/project/{other.id}/host/")) == ["cluster"]


# -- who may what ------------------------------------------------------------------------------------


def test_an_observer_sees_tasks_and_hosts_and_changes_none(sandbox, project, other, observer):
    task, script = make_task(sandbox, project), make_script(sandbox, project)
    host = sandbox.post(f"v2/project/{project.id}/host/", {"name": "cluster"})
    mine = sandbox.get("v2/project/myagora/", user=observer)["id"]
    assert sandbox.get(f"v1/taskdefinition/{task['id']}/", user=observer) == task
    assert sandbox.get(f"v2/project/{project.id}/host/", user=observer)["results"] == [host]
    refused = [
        ("POST", "v1/taskdefinition/", {"name": "x", "project": project.id}),
        ("PUT", f"v1/taskdefinition/{task['id']}/", {"name": "x"}),
        ("DELETE", f"v1/taskdefinition/{task['id']}/", None),
        ("DELETE", f"v2/taskdefinition_yaml/{script['id']}/", None),
        ("POST", f"v2/project/{mine}/task/{task['id']}/move/", {}),
        ("POST", f"v2/project/{project.id}/task/{task['id']}/copy/", {}),
        ("POST", f"v2/project/{project.id}/task/imp/", {"name": "x"}),
        ("POST", f"v2/project/{project.id}/host/", {"name": "x"}),
        ("POST", f"v2/project/{mine}/host/{host['id']}/move/", {}),
    ]
    answers = [sandbox.api(method, path, json=body, user=observer) for method, path, body in refused]
    assert [answer.status_code for answer in answers] == [403] * len(refused)
    assert sandbox.get(f"v2/project/{project.id}/task/")["results"] == [task]
    copied = sandbox.post(f"v2/project/{mine}/task/{task['id']}/copy/", {}, user=observer)
    assert copied["project"] == mine


def test_tasks_and_hosts_of_other_projects_do_not_exist(sandbox, project):
    task, script = make_task(sandbox, project), make_script(sandbox, project)
    host = sandbox.post(f"v2/project/{project.id}/host/", {"name": "cluster"})
    mine = sandbox.get("v2/project/myagora/", user="scientist")["id"]
    for method, path in (
        ("GET", f"v1/taskdefinition/{task['id']}/"),
        ("GET", f"v2/taskdefinition_yaml/{script['id']}/"),
        ("GET", f"v1/taskdefinition/{task['id']}/export/"),
        ("PUT", f"v1/taskdefinition/{task['id']}/"),
        ("DELETE", f"v1/taskdefinition/{task['id']}/"),
        ("POST", f"v1/taskdefinition/{task['id']}/run/"),
        ("GET", f"v2/project/{project.id}/task/"),
        ("GET", f"v2/project/{project.id}/host/"),
        ("POST", f"v2/project/{mine}/task/{task['id']}/copy/"),
        ("POST", f"v2/project/{mine}/host/{host['id']}/move/"),
    ):
        assert sandbox.api(method, path, json={}, user="scientist").status_code == 404, path
    assert task["id"] not in [
        found["id"] for found in sandbox.get("v1/taskdefinition/?limit=1000", user="scientist")["results"]
    ]


def test_a_project_deleted_for_good_takes_its_tasks_and_hosts_along(sandbox, other):
    make_task(sandbox, other)
    script = make_script(sandbox, other)
    sandbox.post(f"v2/project/{other.id}/host/", {"name": "cluster"})
    assert sandbox.api("DELETE", f"v2/project/{other.id}/").status_code == 204
    assert sandbox.api("GET", f"v2/taskdefinition_yaml/{script['id']}/").status_code == 404
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == other.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    assert other.id not in [host["project"] for host in sandbox.get("v1/host/?limit=1000")["results"]]
