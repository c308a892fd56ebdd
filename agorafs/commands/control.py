"""Give a command to a directory of a mount, as its control file takes it, and print the answer.

The words are taken as they are, so nothing is to be quoted twice. Paths among them are relative to DIR. The command
help lists all there are.
"""

from __future__ import annotations

import argparse
import json
import sys

from agorafs.clock import SYSTEM_CLOCK
from agorafs.commands import state_directory_of
from agorafs.commands.asking import collect
from agorafs.commands.places import place_of
from agorafs.errors import ExitStatus, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs control`` understands."""
    parser.add_argument("directory", metavar="DIR", help="a directory on a mount")
    parser.add_argument(
        "words", metavar="WORD", nargs="+", help="a command and its arguments: tag exams/E1 good"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument(
        "--stdin",
        metavar="NAME",
        help="read the argument NAME from standard input: a text, or an object of JSON",
    )
    parser.add_argument(
        "--password-stdin",
        action="store_const",
        const="password",
        dest="stdin",
        help="the same as --stdin password",
    )
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = (
        "Exit status: 0 it was done, 2 it was not understood, 3 it is not allowed, 1 any other refusal."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Ask the process of the mount."""
    fields = {} if arguments.stdin is None else {arguments.stdin: _from_stdin(arguments.stdin)}
    place = place_of(arguments.directory, state_directory_of(arguments))
    answer = collect(place, SYSTEM_CLOCK, "control", words=arguments.words, fields=fields)
    if arguments.json:
        print(json.dumps(answer["data"], ensure_ascii=False))
    else:
        print(answer["text"])
    return ExitStatus.OK


def _from_stdin(name: str) -> object:
    if name == "password" and sys.stdin.isatty():
        raise UsageError("the password is read from standard input, which is a terminal that would show it")
    text = sys.stdin.read()
    if text.lstrip().startswith(("{", "[")) and name != "password":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"standard input is not JSON: {error}") from None
    return text.rstrip("\r\n")
