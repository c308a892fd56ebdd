"""The options that say which server, with which key and which settings; of ``mount`` and of ``upload --server``."""

from __future__ import annotations

import argparse
from pathlib import Path

from agorafs.config import SAFE_KERNEL_FLAGS
from agorafs.options import Options, absolute_path, parse_options
from agorafs.profiles import GivenCredential, Resolved, resolve


def add_server_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options that ``read_server`` reads."""
    parser.add_argument(
        "-o", dest="options", metavar="OPT,OPT=VALUE…", action="append", default=[],
        help="settings; agorafs mount --help lists them",
    )  # fmt: skip
    parser.add_argument("--api-key-file", metavar="FILE", help="file that holds the API key and nothing else")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file that holds a session token, instead of a key"
    )
    parser.add_argument("--user", metavar="NAME", help="whose password --password-file holds")
    parser.add_argument(
        "--password-file", metavar="FILE", help="file that holds a password, instead of a key"
    )
    parser.add_argument("--ca-bundle", metavar="FILE", help="certificates to trust instead of the system's")
    parser.add_argument("--insecure", action="store_true", help="allow http to another machine")
    parser.add_argument("--cache-dir", metavar="DIR", help="same as -o cache_directory=DIR")
    parser.add_argument("--state-dir", metavar="DIR", help="same as -o state_directory=DIR")
    parser.add_argument("--config", metavar="FILE", help="configuration file with the profiles")
    parser.add_argument("-v", "--verbose", action="store_true", help="same as -o debug")


def read_server(source: str, arguments: argparse.Namespace) -> tuple[Resolved, Options]:
    """Bring together what *arguments*, environment and configuration say of *source*, a URL or a profile.

    Raises:
        UsageError: A name or value is wrong, or there is no such profile.
        NotAuthenticated: There is no credential anywhere.
    """
    options = parse_options(arguments.options)
    given = dict(options.settings)
    for name, value in (
        ("ca_bundle", arguments.ca_bundle),
        ("cache_directory", arguments.cache_dir),
        ("state_directory", arguments.state_dir),
    ):
        if value is not None:
            given[name] = absolute_path(value)
    if arguments.insecure:
        given["insecure"] = True
    if arguments.verbose:
        given["debug"] = True
    given["kernel_flags"] = tuple(dict.fromkeys((*SAFE_KERNEL_FLAGS, *options.kernel_flags)))
    resolved = resolve(
        source,
        given,
        credential=GivenCredential(
            api_key_file=path_or(arguments.api_key_file, options.api_key_file),
            token_file=path_or(arguments.token_file, options.token_file),
            user=arguments.user or options.username,
            password_file=path_or(arguments.password_file, options.password_file),
        ),
        config_file=path_or(arguments.config, options.config),
    )
    return resolved, options


def path_or(text: str | None, otherwise: Path | None) -> Path | None:
    """Return *text*, given on the command line, as an absolute path, or *otherwise* when it was not given."""
    return otherwise if text is None else absolute_path(text)
