"""Views through the kernel, with the programs that people use; the vendor's connector says what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.connector import connected

PROJECT = "Neuro Study"


def run(*command, cwd=None):
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def done(*command, cwd=None):
    outcome = run(*command, cwd=cwd)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208 - this is what programs do


def labels(server, exam: int) -> list[str]:
    with connected(server) as agora:
        return sorted(tag.label for tag in agora.get_exam(exam).get_tags())


@pytest.fixture
def one(private_demo, mount):
    mounted = mount(private_demo)
    mounted.server = private_demo
    return mounted


@pytest.fixture
def project(one):
    return one.path / "projects" / PROJECT


def exam_of(path: Path) -> int:
    return int(os.getxattr(path, "user.agora.id"))


def test_a_shell_tags_and_untags_with_mkdir_ln_and_rm(one, project):
    """`rm` in `tags/` takes a tag away, and never the object."""
    exam = next(iter((project / "exams").iterdir()))
    number = exam_of(exam)
    done("mkdir", "tags/new tag", cwd=project)
    done("ln", "-s", f"../../exams/{exam.name}", "tags/new tag/", cwd=project)
    assert "new tag" in labels(one.server, number)
    assert names(project / "tags" / "new tag") == [exam.name]
    assert (project / "tags" / "new tag" / exam.name).samefile(exam)
    assert (one.path / "tags" / "new tag" / exam.name).samefile(exam)
    assert run("rmdir", "tags/new tag", cwd=project).returncode == 1
    done("rm", f"tags/new tag/{exam.name}", cwd=project)
    assert "new tag" not in labels(one.server, number)
    assert exam.is_dir()
    done("rmdir", "tags/new tag", cwd=project)
    assert "new tag" not in names(project / "tags")


def test_a_link_with_a_name_of_its_own_and_an_absolute_target_tags(one, project):
    exam = next(iter((project / "exams").iterdir()))
    done("mkdir", one.path / "tags" / "mine")
    done("ln", "-s", exam, one.path / "tags" / "mine" / "whatever")
    assert "mine" in labels(one.server, exam_of(exam))
    assert names(one.path / "tags" / "mine") == [exam.name]
    done("rm", "-r", one.path / "tags" / "mine")
    assert "mine" not in labels(one.server, exam_of(exam))
    assert "mine" not in names(one.path / "tags")


def test_all_links_of_the_views_lead_somewhere_from_any_directory_and_after_the_mount_has_moved(
    one, project, tmp_path
):
    """Links are relative and lead inside the mount, from any working directory, also after the mount point has moved.

    Those of folders and patients are looked at elsewhere.
    """
    places = ["tags", "tasks", f"projects/{PROJECT}/tags", "search/brain", f"projects/{PROJECT}/search/T1"]
    links = [
        (Path(directory) / name).relative_to(one.path)
        for place in places
        for directory, directories, files in os.walk(one.path / place)
        for name in (*directories, *files)
        if (Path(directory) / name).is_symlink()
    ]
    assert len(links) > 10
    for link in links:
        assert not (one.path / link).readlink().is_absolute()
        done("test", "-e", link, cwd=one.path)
        done("test", "-e", link.name, cwd=(one.path / link).parent)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(one.path)
    assert all((elsewhere / link).exists() for link in links)


def test_links_resolve_where_the_mount_is_bound_and_where_it_has_been_moved_to(one, project, tmp_path):
    """Links are relative and lead inside the mount, from any working directory, also after the mount point has moved.

    In a namespace of its own, where everybody may bind and move what is mounted.
    """
    exam = next(iter((project / "exams").iterdir()))
    done("ln", "-s", f"../exams/{exam.name}", "folders/", cwd=project)
    uid = os.getxattr(exam, "user.agora.uid").decode()
    links = [
        f"projects/{PROJECT}/folders/{exam.name}",
        f".agora/by-id/exam/{exam_of(exam)}",
        f".agora/by-uid/{uid}",
        f"search/brain/{exam.name}",
        *(
            f"{place}/{name}"
            for place in (
                "tags/good",
                "tasks",
                f"projects/{PROJECT}/tags/good",
                f"projects/{PROJECT}/exams/{exam.name}/.agora/in-folders",
            )
            for name in names(one.path / place)
        ),
        *(
            f"patients/{name}/{inner}"
            for name in names(one.path / "patients")
            for inner in names(one.path / "patients" / name)
        ),
    ]
    bound, moved = tmp_path / "bound", tmp_path / "moved"
    bound.mkdir()
    moved.mkdir()
    look = """
        for link; do
            test -h "$link" && test -e "$link" || { echo "$link leads nowhere from $PWD"; exit 1; }
            (cd "${link%/*}" && test -e "${link##*/}") || { echo "$link leads nowhere from beside it"; exit 1; }
            case $(realpath "$link") in "$PWD"/*) ;; *) echo "$link leads out"; exit 1 ;; esac
        done
    """
    script = f"""
        from=$1 bound=$2 moved=$3; shift 3
        mount --bind "$from" "$bound" && cd "$bound" || exit
        {look}
        cd / && mount --move "$bound" "$moved" && cd "$moved" || exit
        {look}
    """
    outcome = run("unshare", "-rm", "sh", "-c", script, "sh", one.path, bound, moved, *links)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    assert len(links) > 10


def test_a_search_is_there_for_whoever_names_it_and_for_nobody_else(one, project):
    assert "search" not in names(one.path)
    assert "search" not in names(project)
    assert "Brain, volunteer" in names(one.path / "search" / "brain")
    assert names(one.path / "search" / "nothing like this") == []
    assert not (one.path / "search" / ".git").exists()
    assert run("find", one.path / "search" / "T1", "-maxdepth", "1", "-type", "l").stdout.count("\n") > 3


def test_rm_in_the_trash_is_final_where_deleting_is_allowed_and_mv_out_of_it_says_why_not(
    private_demo, mount
):
    one = mount(private_demo, "allow_delete")
    project = one.path / "projects" / PROJECT
    (entry,) = list((project / "trash").iterdir())
    about = json.loads(entry.read_bytes())
    assert entry.stat().st_size == len(entry.read_bytes())
    assert entry.name == f"{about['name']} ({about['id']})"
    assert run("mv", entry, project / "trash" / "back").returncode == 1
    assert b"web interface" in os.getxattr(entry, "user.agora.error")
    done("rm", entry)
    assert names(project / "trash") == []
    entries = private_demo.api("GET", "v1/trash/").json()["results"]
    assert about["id"] not in [entry["id"] for entry in entries]


def test_what_rm_r_of_a_project_removes_stays_in_its_trash(one, project):
    """`rm -r` reaches `trash/` after the folders, which would make final what it has just removed."""
    before = set(names(project / "trash"))
    assert run("rm", "-rf", project).returncode == 1
    assert names(project / "folders") == []
    kept = names(project / "trash")
    assert before < set(kept)
    assert any(name.startswith("brain_4d.nii (") for name in kept)
    assert any(
        entry["name"] == "brain_4d.nii" for entry in one.server.api("GET", "v1/trash/").json()["results"]
    )


def test_what_is_removed_in_a_folder_is_in_the_trash_at_once(one, project):
    before = set(names(project / "trash"))
    (project / "folders" / "note.txt").write_bytes(b"x")
    assert one.run("sync", one.path).returncode == 0
    done("rm", project / "folders" / "note.txt")
    assert [name for name in names(project / "trash") if name not in before]


def test_projects_are_created_and_renamed_by_mkdir_and_mv(one):
    projects = one.path / "projects"
    done("mkdir", projects / "A new one")
    assert names(projects / "A new one") == ["exams", "folders", "patients", "tags", "tasks", "trash"]
    done("mv", projects / "A new one", projects / "Another")
    with connected(one.server) as agora:
        titles = {project.name for project in agora.get_projects()}
    assert "Another" in titles
    assert "A new one" not in titles
    refused = run("rmdir", projects / "Another")
    assert refused.returncode == 1
    assert b"allow_delete" in os.getxattr(projects / "Another", "user.agora.error")
    assert run("mv", projects / "My Agora", projects / "Mine").returncode == 1


def test_a_uid_and_a_folder_item_lead_to_the_exam(one, project):
    exam = next(iter((project / "exams").iterdir()))
    uid = os.getxattr(exam, "user.agora.uid").decode()
    assert (one.path / ".agora" / "by-uid" / uid).samefile(exam)
    done("ln", "-s", f"../exams/{exam.name}", "folders/", cwd=project)
    folders = exam / ".agora" / "in-folders"
    assert any((folders / name).samefile(project / "folders") for name in names(folders))


def test_copies_of_a_tag_with_links_followed_hold_the_data(one, project, tmp_path):
    """``cp -rL`` of a tag is a way to take along what is good."""
    tag = project / "tags" / "good"
    (name, *_) = names(tag)
    copied = tmp_path / "copied"
    if (tag / name).is_dir():
        shutil.copytree(tag / name, copied)
        taken = [path for path in copied.rglob("*") if path.is_file()]
        assert taken
        for path in taken:
            assert path.read_bytes() == (tag / name / path.relative_to(copied)).read_bytes()
    else:
        shutil.copyfile(tag / name, copied)
        assert copied.stat().st_size == (tag / name).stat().st_size


def test_links_to_what_was_moved_by_a_command_lead_to_its_new_place(one, project):
    """Also those that were followed before, whose way was known."""
    exam = one.path / ".agora" / "by-id" / "exam" / str(exam_of(project / "exams" / "Brain, volunteer"))
    file = (
        one.path
        / ".agora"
        / "by-id"
        / "dataset"
        / str(exam_of(project / "folders" / "Documents" / "protocol.txt"))
    )
    assert exam.resolve() == project / "exams" / "Brain, volunteer" and file.is_file()
    commands = [
        "move 'exams/Brain, volunteer' '/projects/Phantom QA'",
        "move folders/Documents/protocol.txt folders",
    ]
    for command in commands:
        (project / ".agora" / "control").write_text(f"{command}\n")
    assert run("cat", one.path / ".agora" / "jobs" / "1" / "wait").stdout == "finished\n"
    assert exam.resolve() == one.path / "projects" / "Phantom QA" / "exams" / "Brain, volunteer"
    assert file.resolve() == project / "folders" / "protocol.txt"
    (result,) = (one.path / ".agora" / "jobs" / "1" / "results").iterdir()
    assert result.is_dir()
