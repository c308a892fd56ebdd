"""The -o options, as users and as mount(8) write them."""

from pathlib import Path

import pytest

from agorafs.config import GIB
from agorafs.errors import ExitStatus, UsageError
from agorafs.options import parse_options, split_options


def test_what_mount_8_passes_on_for_a_line_of_fstab_is_understood():
    """Recorded on Debian 12 from ``mount -t fuse.agorafs`` with ``ro,allow_other,_netdev,nofail,…``."""
    options = parse_options(["ro,noexec,nosuid,nodev,allow_other,uid=1000,api_key_file=/etc/k"])
    assert options.settings == {"read_only": True, "allow_other": True, "uid": 1000}
    assert options.kernel_flags == ("noexec", "nosuid", "nodev")
    assert options.api_key_file == Path("/etc/k")


def test_words_for_mount_8_and_systemd_are_dropped_if_they_come_through():
    words = (
        "defaults,_netdev,nofail,user,noauto,x-systemd.automount,x-gvfs-notrash,X-mount.mkdir,comment=mine"
    )
    options = parse_options([words])
    assert options == parse_options([])


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("alow_other", "allow_other"),
        ("cache_max_byte=1", "cache_max_bytes"),
        ("nodevs", "nodev"),
        ("apikey_file=/k", "api_key_file"),
    ],
)
def test_an_unknown_option_is_refused_and_the_nearest_named(word, nearest):
    with pytest.raises(UsageError) as refused:
        parse_options([f"ro,{word}"])
    assert f"unknown option: -o {word.partition('=')[0]}" in str(refused.value)
    assert f"did you mean {nearest}?" in str(refused.value)
    assert refused.value.exit_status is ExitStatus.USAGE


def test_a_key_among_the_options_is_refused_without_repeating_it():
    with pytest.raises(UsageError, match="api_key_file") as refused:
        parse_options(["api_key=sesame-1234"])
    assert "sesame" not in str(refused.value)


def test_every_setting_can_be_given_with_underscores_or_hyphens():
    options = parse_options(["cache_max_bytes=2 GiB,listing-ttl-s=5", "insecure"])
    assert options.settings == {"cache_max_bytes": 2 * GIB, "listing_ttl_s": 5.0, "insecure": True}


def test_a_later_option_wins():
    options = parse_options(["ro,noexec,uid=1", "rw,exec,uid=2"])
    assert options.settings == {"read_only": False, "uid": 2}
    assert options.kernel_flags == ("exec",)


@pytest.mark.parametrize("word", ["uid", "api_key_file", "api_key_file="])
def test_an_option_without_its_value_is_refused(word):
    with pytest.raises(UsageError, match="needs a value"):
        parse_options([word])


def test_a_wrong_value_is_refused_and_the_option_named():
    with pytest.raises(UsageError, match="option -o uid must be a whole number"):
        parse_options(["uid=root"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b=c", ["a", "b=c"]),
        (r"ca_bundle=/a\,b,ro", ["ca_bundle=/a,b", "ro"]),
        (r"ca_bundle=/a\\b", [r"ca_bundle=/a\b"]),
        ("a,,b,", ["a", "b"]),
        ("", []),
    ],
)
def test_a_comma_in_a_value_is_written_with_a_backslash(text, parts):
    assert split_options(text) == parts
