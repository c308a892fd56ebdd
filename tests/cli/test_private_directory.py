"""Directories of ours: open to their owner alone, and refused by name when nothing can be written there."""

import os
from pathlib import Path

import pytest

from agorafs.errors import ExitStatus, UsageError
from agorafs.private_directory import make_directory, make_private_directory


def test_a_directory_is_made_with_those_above_it_and_nothing_is_left_in_it(tmp_path):
    made = make_private_directory(tmp_path / "state" / "spool")
    assert made.stat().st_mode & 0o777 == 0o700
    assert list(made.iterdir()) == []


def test_a_directory_that_was_open_to_others_is_closed(tmp_path):
    tmp_path.chmod(0o755)
    assert make_private_directory(tmp_path).stat().st_mode & 0o777 == 0o700


def test_a_directory_that_the_user_has_chosen_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o750)
    assert make_directory(tmp_path).stat().st_mode & 0o777 == 0o750


def test_a_place_that_can_not_be_a_directory_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/state can not be used: Not a directory") as refused:
        make_private_directory(tmp_path / "file" / "state")
    assert refused.value.exit_status is ExitStatus.CACHE_DIRECTORY


def test_a_refusal_says_what_the_directory_is_and_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as refused:
        make_directory(tmp_path / "file" / "x", called="the cache directory", advice="choose another")
    assert str(refused.value) == (
        f"the cache directory {tmp_path}/file/x can not be used: Not a directory; choose another"
    )


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(UsageError, match="belongs to another user"):
        make_private_directory(tmp_path)


def test_a_disk_that_takes_no_more_is_noticed_although_its_permissions_allow_all():
    """Nobody can make a file in ``/proc``, root neither, whatever its mode says."""
    with pytest.raises(UsageError, match="/proc can not be used"):
        make_directory(Path("/proc"))
