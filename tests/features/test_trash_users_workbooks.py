"""What is in the trash; users that are made; workbooks that are made. Each as the connector sees it."""

from __future__ import annotations

import json

import gtagora
import pytest
from gtagora.models.trash import Trash
from gtagora.models.workbook import Workbook

from tests.features.own_objects import new_folder, new_project, unique


@pytest.mark.feature(111, how="`ls PROJECT/trash`, `cat PROJECT/trash/NAME`")
def test_the_trash_of_a_project_is_a_directory(bench):
    own, other = new_project(bench), new_project(bench)
    root = own.project.get_root_folder()
    for name in ("first", "second"):
        root.create_folder(name).delete()
    other.project.get_root_folder().create_folder("elsewhere").delete()
    bench.control("refresh", bench.root)
    trash = Trash(http_client=bench.agora.http_client)
    for one, count in ((own, 2), (other, 1)):
        shown = [json.loads(path.read_text()) for path in (one.path / "trash").iterdir()]
        theirs = trash.get_items(one.project.id)
        assert sorted((entry["id"], entry["name"]) for entry in shown) == sorted(
            (item.id, item.name) for item in theirs
        )
        assert len(theirs) == count
    assert len(bench.shell('ls "$1"', own.path / "trash").splitlines()) == 2


@pytest.mark.feature(
    112,
    how='`echo \'{"command": "create-user", "name": "ann", "password": "…"}\' > /.agora/control`; '
    "`agorafs control DIR create-user ann --password-stdin`",
)
@pytest.mark.parametrize("way", ["control", "agorafs"])
def test_a_user_is_made_who_can_log_in(bench, way):
    name = unique("user").replace(" ", "-")
    if way == "control":
        said = {"command": "create-user", "name": name, "password": "a secret", "email": "ann@example.org"}
        answer = bench.control(json.dumps(said))
        assert "secret" not in answer
    else:
        words = ("create-user", name, "ann@example.org", "--password-stdin")
        bench.command("control", bench.root, *words, stdin="a secret\n")
    (user,) = [one for one in bench.agora.get_users() if one.username == name]
    assert user.email == "ann@example.org"
    try:
        theirs = gtagora.Agora.create(bench.server.url, user=name, password="a secret")
        assert theirs.get_current_user().username == name
    finally:
        gtagora.Agora.set_default_client(bench.agora.http_client)


@pytest.mark.feature(
    62, how="`echo 'create-workbook FILE NAME' > .agora/control`; for cardiac MR with `is-cardiac=1`"
)
@pytest.mark.parametrize("is_cardiac", [False, True])
def test_a_workbook_is_made_of_a_dataset_as_the_connector_would(bench, is_cardiac):
    own = new_folder(bench, data="the data")
    (dataset,) = own.folder.get_datasets()
    words = " is-cardiac=1" if is_cardiac else ""
    bench.control(f"create-workbook data.txt 'My workbook'{words}", own.path)
    (made,) = dataset.get_workbooks()
    assert made.name == "My workbook"
    client = bench.agora.http_client
    theirs = Workbook.create_cmr(dataset.id, client) if is_cardiac else Workbook.create(dataset.id, client)
    for field in ("dataset", "contour_tab", "mask_tab", "statistics_tab", "cmr_tab", "locked"):
        assert getattr(made, field) == getattr(theirs, field), field
    buttons = [button["mButtonLabel"] for button in made.contour["objectButtons"]]
    assert buttons == [button["mButtonLabel"] for button in theirs.contour["objectButtons"]]
    assert (len(buttons) > 1) == is_cardiac
    shown = own.path / ".agora" / "entries" / "data.txt" / "workbooks" / "My workbook" / "workbook.json"
    bench.control("refresh", own.path)
    assert json.loads(shown.read_text())["id"] == made.id
