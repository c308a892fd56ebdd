"""What is written into a control file: where commands end, what their words are, and what is refused unasked."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agorafs.errors import AgoraFSError, BadCommand
from agorafs.vfs.control import VERBS
from agorafs.vfs.control.language import MAX_COMMAND_BYTES, Splitter, parse
from agorafs.vfs.control.verb import Argument, Takes, Verb


def split(*pieces: bytes) -> list[str]:
    splitter = Splitter()
    found = []
    for piece in pieces:
        splitter.feed(piece)
        while (text := splitter.next()) is not None:
            found.append(text)
    rest = splitter.finish()
    return found if rest is None else [*found, rest]


def bound(text: str):
    command = parse(text)
    return VERBS[command.verb].bind(command).values


# -- where commands end ----------------------------------------------------------------------------------


def test_each_line_is_a_command_and_blank_lines_and_comments_are_none():
    assert split(b"help\n\n  \n# a word\nrate a 3\r\nlock b") == ["help", "rate a 3", "lock b"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_commands_are_the_same_however_they_are_cut(size):
    text = b'tag "a b" good\n{"command": "help",\n "verb": "t}\\"ag"}\nrefresh\n'
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert split(*pieces) == ['tag "a b" good', '{"command": "help",\n "verb": "t}\\"ag"}', "refresh"]


def test_an_object_is_complete_with_its_last_brace():
    splitter = Splitter()
    splitter.feed(b'{"command": {"a": "}"}}')
    assert splitter.next() == '{"command": {"a": "}"}}'


def test_a_command_may_be_as_long_as_the_limit_and_no_longer():
    longest = b"x" * MAX_COMMAND_BYTES
    assert split(longest + b"\n") == [longest.decode()]
    with pytest.raises(BadCommand, match="64 KiB"):
        split(longest + b"x\n")
    with pytest.raises(BadCommand, match="64 KiB"):
        split(b'{"a": "' + longest)


def test_what_follows_a_command_that_was_refused_in_its_middle_is_not_taken_for_commands():
    splitter = Splitter()
    splitter.feed(b"x" * (MAX_COMMAND_BYTES + 1))
    with pytest.raises(BadCommand):
        splitter.next()
    splitter.drop()
    with pytest.raises(BadCommand, match="begin anew"):
        splitter.feed(b"\nhelp\n")


def test_a_text_that_goes_over_the_end_of_its_line_ends_all_talk():
    splitter = Splitter()
    splitter.feed(b'{"command": "rate\n')
    with pytest.raises(BadCommand, match="not JSON"):
        splitter.next()
    splitter.drop()
    with pytest.raises(BadCommand):
        splitter.feed(b"lock exams/E\n")


def test_something_behind_an_object_on_its_line_refuses_the_object():
    with pytest.raises(BadCommand, match="follows the object"):
        split(b'{"command": "help"} lock exams/E\n')


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(BadCommand, match="UTF-8"):
        split(b"rate \xff 3\n")


# -- words -------------------------------------------------------------------------------------------------


def test_words_are_quoted_as_for_a_shell_and_otherwise_left_alone():
    command = parse("tag 'exams/Brain MRI' \"it's\" a\\ b Ä é~*$HOME")
    assert (command.verb, command.words) == ("tag", ("exams/Brain MRI", "it's", "a b", "Ä", "é~*$HOME"))


@pytest.mark.parametrize(
    "text", ["tag 'a", "rate a\x003", "rate \x1b[2J 3", "rate \x9b 3", "help\ud800", "rate a\x7f 1"]
)
def test_what_is_no_line_of_a_shell_or_has_control_characters_is_refused(text):
    with pytest.raises(BadCommand):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", '{"command": 3}', '{"command": "rate", "path": "a", "path": "b"}', '{"command": "a", "x": NaN}',
        '{"command": "a", "x": 1e999}', '{"command": "a", "x": "\\u0000"}', '{"command": "a", "x": "\\ud800"}',
        '{"command": "a", "x": ' + "9" * 5000 + "}", '{"command": "a", "x": ' + "[" * 20000, '{"command":"a"} x',
    ],
)  # fmt: skip
def test_what_is_no_object_with_a_command_is_refused(text):
    with pytest.raises(BadCommand):
        parse(text)


def test_what_was_said_is_not_repeated_in_a_refusal_for_it_may_hold_a_password():
    for text in (
        '{"command": "create-user", "name": "a", "password": "hunter2", }',
        "create-user 'a hunter2",
    ):
        with pytest.raises(BadCommand) as caught:
            parse(text)
        assert "hunter2" not in str(caught.value)


# -- arguments ---------------------------------------------------------------------------------------------


def test_arguments_come_in_their_order_or_by_name():
    wanted = {"path": "exams/E", "value": 4}
    for text in (
        "rate exams/E 4",
        "rate value=4 exams/E",
        "rate path=exams/E value=4",
        '{"command": "rate", "path": "exams/E", "value": 4}',
    ):
        assert bound(text) == wanted


def test_an_argument_of_several_takes_the_rest_and_may_be_named_by_one():
    assert bound("tag exams/E a b")["labels"] == ("a", "b")
    assert bound("tag exams/E label=a label=b=c")["labels"] == ("a", "b=c")
    assert bound('{"command": "tag", "path": "exams/E", "labels": ["a", "b"]}')["labels"] == ("a", "b")
    assert bound('{"command": "tag", "path": "exams/E", "label": "a"}')["labels"] == ("a",)


def test_what_has_no_name_of_an_argument_is_an_input_of_the_task_or_a_parameter():
    assert bound("run Recon ds=a=b size=4 target=out")["inputs"] == {
        "ds": "a=b",
        "size": "4",
        "target": "out",
    }
    assert bound("set-parameters a=b 'Echo Time=3' set=Mine") == {
        "path": "a=b", "parameters": {"Echo Time": "3"}, "set": "Mine",
    }  # fmt: skip
    assert bound('{"command": "run", "task": "Recon", "inputs": {"task": 1}, "n": [2]}')["inputs"] == {
        "task": 1,
        "n": [2],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate exams/E", r"rate needs stars \(value\)"),
        ("rate exams/E 4 5", "one argument too many"),
        ("rate exams/E 6", "a number from 0 to 5"),
        ("rate exams/E four", "a number from 0 to 5"),
        (
            "rate exams/E vlaue=4",
            r"no argument vlaue \(did you mean value\?\); a name with = is written ./vlaue=",
        ),
        ("rate exams/E 4 value=4", "value twice"),
        ("rate '' 4", "path is empty"),
        ('{"command": "rate", "path": "a", "value": "4"}', "a number from 0 to 5"),
        ('{"command": "rate", "path": "a", "value": true}', "a number from 0 to 5"),
        ('{"command": "rate", "path": ["a"], "value": 4}', "path .* is a text"),
        ('{"command": "rate", "pth": "a", "value": 4}', r"no argument 'pth' \(did you mean path\?\)"),
        ('{"command": "tag", "path": "a", "labels": []}', "one text or a list"),
        ('{"command": "create-user", "name": "a", "is_superuser": 2}', "1 or 0"),
        ("run Recon ds=a ds=b", "'ds' is given twice"),
    ],
)
def test_arguments_that_are_not_as_declared_are_refused_and_named(text, words):
    with pytest.raises(BadCommand, match=words):
        bound(text)


def test_a_secret_is_not_taken_from_a_line_and_not_shown():
    with pytest.raises(BadCommand, match="not given in a line") as caught:
        bound("create-user ann password=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "PASSWORD" not in VERBS["create-user"].usage()
    assert bound('{"command": "create-user", "name": "ann", "password": "hunter2"}')["password"] == "hunter2"


@pytest.mark.parametrize("name", sorted(VERBS))
def test_the_example_of_every_verb_is_a_command_of_it(name):
    command = parse(VERBS[name].example)
    assert command.verb == name
    VERBS[name].bind(command)


# -- anything ----------------------------------------------------------------------------------------------

_WORDS = [
    *VERBS,
    "exams/E",
    "value=4",
    "4",
    "'",
    '"',
    "\\",
    "=",
    "{",
    "}",
    "#",
    "\t",
    "\0",
    "\x1b",
    "\ud800",
    "∕",
    "é",
    "-",
]


def _anything(chance: random.Random) -> str:
    """Return a line, an object, something like one, or noise."""
    words = chance.choices(_WORDS, k=chance.randrange(6))
    match chance.randrange(4):
        case 0:
            return " ".join(words)
        case 1:
            known: object = {chance.choice(_WORDS): _value(chance, 3) for _ in range(chance.randrange(4))}
            assert isinstance(known, dict)
            return json.dumps({"command": chance.choice([*VERBS]), **known})
        case 2:
            text = json.dumps({"command": chance.choice(words or ["help"]), "path": words})
            at = chance.randrange(len(text))
            return text[:at] + chance.choice(_WORDS) + text[at + chance.randrange(3) :]
        case _:
            return "".join(
                chr(chance.choice([chance.randrange(256), chance.randrange(0x110000)])) for _ in range(12)
            )


def _value(chance: random.Random, depth: int) -> object:
    kind = chance.randrange(6 if depth else 4)
    if kind < 4:
        return (None, chance.random() * 10**9, chance.randrange(-9, 9), chance.choice(_WORDS))[kind]
    inner = [_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    return inner if kind == 4 else {str(number): one for number, one in enumerate(inner)}


def test_a_hundred_thousand_inputs_are_each_understood_or_refused_and_none_holds_up():
    """Each is written as bytes, cut anywhere, parsed and bound, as through a handle of its own."""
    chance = random.Random(20240229)
    understood = refused = 0
    slowest_s = 0.0
    for _ in range(100_000):
        text = _anything(chance)
        data = text.encode(errors="surrogatepass") + b"\n"
        cut = chance.randrange(len(data) + 1)
        begun_s = time.process_time()
        try:
            for one in split(data[:cut], data[cut:]):
                command = parse(one)
                if command.verb in VERBS:
                    VERBS[command.verb].bind(command)
            understood += 1
        except AgoraFSError:
            refused += 1
        slowest_s = max(slowest_s, time.process_time() - begun_s)
    assert understood > 1000 and refused > 10_000
    assert slowest_s < 1.0


@given(st.text(max_size=200))
@example('{"command":"' + "\\" * 101)
def test_any_text_is_parsed_or_refused(text):
    try:
        command = parse(text)
    except BadCommand:
        return
    assert isinstance(command.verb, str)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_cutting_bytes_elsewhere_gives_the_same_commands(pieces):
    def outcome(*cut: bytes) -> object:
        try:
            return split(*cut)
        except BadCommand:
            return None

    whole = b"".join(pieces)
    single = [whole[at : at + 1] for at in range(len(whole))]
    one_by_one = outcome(*single)
    assert outcome(whole) == one_by_one or None in (outcome(whole), one_by_one)


def test_an_object_that_comes_byte_by_byte_is_looked_at_once():
    """64 KiB in pieces of one byte take no longer than they are long."""
    text = b'{"command": "help", "x": "' + b"y" * (MAX_COMMAND_BYTES - 40) + b'"}'
    begun_s = time.process_time()
    assert split(*(text[at : at + 1] for at in range(len(text)))) == [text.decode()]
    assert time.process_time() - begun_s < 5


def test_arguments_that_are_any_json_are_taken_from_a_line_as_json():
    verb = Verb("v", "", "v", None, (Argument("mask", "m", Takes.DATA),))  # type: ignore[arg-type]
    assert verb.bind(parse("v 'mask={\"a\": [1]}'")).data("mask") == {"a": [1]}
    with pytest.raises(BadCommand):
        verb.bind(parse("v mask={a}"))


def test_a_name_that_is_no_argument_is_answered_with_those_that_are():
    with pytest.raises(BadCommand, match="rate has no argument 'stars'; it has: path, value"):
        bound('{"command": "rate", "path": "exams/E", "stars": 3}')
