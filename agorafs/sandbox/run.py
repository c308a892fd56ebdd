"""``agorafs sandbox``: the command line of the sandbox.

Exit status: 0 after SIGTERM or SIGINT, which also end a seeding that is under way; 1 when the server cannot run
(port in use, directory unusable, a package missing); 2 when the command line is wrong. Every failure is one line
on stderr.

With ``--json`` the first line on stdout is ``{"url", "api_key", "control_token", "users": {name: key}, "data"}``. It is
printed when the server answers and the seed, if any, is in place.

The web framework is imported when the server starts, so that the parser works without the extra.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    from agorafs.sandbox.server import Sandbox

DESCRIPTION = "Serve an Agora-compatible archive from a local directory, on 127.0.0.1."


class _CannotRunError(Exception):
    """The server cannot run; the text is the line for the user."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, help="where everything is kept; required")
    parser.add_argument("--port", type=int, default=0, help="TCP port; without it a free one is taken")
    parser.add_argument(
        "--seed", choices=("demo", "none"), default="none", help="fill an empty DIR with demo data first"
    )
    parser.add_argument("--json", action="store_true", help="print URL and keys as one line of JSON")
    parser.add_argument(
        "--switch",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="decide differently where the API is not known, or inject faults (may be repeated); "
        "'--switch help' lists them",
    )
    parser.add_argument(
        "--tls-certificate", metavar="FILE", type=Path, help="serve https with this PEM certificate"
    )
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="the certificate's PEM key")


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    try:
        if "help" in args.switch:
            print(_switch_table())
            return 0
        sandbox = _create(args)
        return asyncio.run(_serve(sandbox, args))
    except _CannotRunError as error:
        print(f"agorafs sandbox: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 0


def _switch_table() -> str:
    from agorafs.sandbox.switches import SWITCHES

    lines = []
    for switch in SWITCHES.values():
        values = "|".join(switch.values) or ("number" if switch.is_number else "text")
        lines.append(f"{switch.name}={switch.default or '…'} ({values})\n    {switch.meaning}")
    return "\n".join(lines)


def _create(args: argparse.Namespace) -> Sandbox:
    # not argparse's to require: "--switch help" needs no directory
    if args.data is None:
        raise _CannotRunError("--data DIR is missing: where everything is kept", 2)
    if not 0 <= args.port <= 65535:
        raise _CannotRunError(f"{args.port} is no TCP port", 2)
    _require("aiohttp", "sandbox")
    _require("pydicom", "sandbox")
    _require("yaml", "sandbox")
    from agorafs.sandbox.server import Sandbox
    from agorafs.sandbox.store import DataDirectoryError
    from agorafs.sandbox.switches import SwitchError, parse_option

    try:
        switches: dict[str, str] = {}
        for option in args.switch:
            name, value = parse_option(option)
            switches[name] = f"{switches[name]},{value}" if name == "fault" and name in switches else value
        return Sandbox(args.data, args.port, switches, _tls_context(args))
    except SwitchError as error:
        raise _CannotRunError(str(error), 2) from None
    except (DataDirectoryError, OSError) as error:
        raise _CannotRunError(str(error)) from None


def _require(package: str, extra: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise _CannotRunError(
            f"the Python package {package} is missing; run: pip install 'agorafs[{extra}]'"
        ) from None


def _tls_context(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.tls_certificate is None and args.tls_key is None:
        return None
    if args.tls_certificate is None or args.tls_key is None:
        raise _CannotRunError("--tls-certificate and --tls-key belong together", 2)
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(args.tls_certificate, args.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise _CannotRunError(f"the certificate or key cannot be used: {error}") from None
    return context


async def _serve(sandbox: Sandbox, args: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        try:
            await sandbox.start()
        except OSError as error:
            raise _CannotRunError(
                f"cannot listen on 127.0.0.1:{args.port}: {error.strerror or error}"
            ) from None
        if args.seed == "demo":
            await _seed_until(stop, sandbox)
        if not stop.is_set():
            _announce(sandbox, args)
        await stop.wait()
    finally:
        await sandbox.stop()
    return 0


async def _seed_until(stop: asyncio.Event, sandbox: Sandbox) -> None:
    """Seed, but give up when *stop* is set: it takes seconds, and the next start repeats what was interrupted."""
    seeding = asyncio.ensure_future(_seed(sandbox))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((seeding, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        seeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await seeding
    else:
        await seeding


async def _seed(sandbox: Sandbox) -> None:
    """Put the demo content in, once per data directory."""
    _require("nibabel", "demo")
    _require("numpy", "demo")
    from agorafs.sandbox.demo import seed
    from agorafs.sandbox.demo_client import SeedingError
    from agorafs.sandbox.demo_data import DemoUnavailable

    try:
        await seed(sandbox)
    except (SeedingError, DemoUnavailable) as error:
        raise _CannotRunError(f"the demo content could not be made: {error}") from None
    sandbox.recorder.reset()  # what the seeding asked is not what a test counts


def _announce(sandbox: Sandbox, args: argparse.Namespace) -> None:
    if args.json:
        line: dict[str, Any] = {
            "url": sandbox.url,
            "api_key": sandbox.api_key,
            "control_token": sandbox.control_token,
            "users": sandbox.users,
            "data": str(args.data),
        }
        print(json.dumps(line), flush=True)
        return
    print(f"Agora sandbox: {sandbox.url}")
    print(f"API key:       {sandbox.api_key}")
    print("Stop it with Ctrl-C; what is in the data directory stays.", flush=True)
