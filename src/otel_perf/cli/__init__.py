"""The command ``otel-perf``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those of the command line if not given.

    Returns:
        Exit status: 0 if all is well, 1 if there are findings, 2 if it was used in the wrong way or nothing was found.
    """
    parser = argparse.ArgumentParser(prog="otel-perf", description="Looks at services that run with otel_perf.")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="print what the running groups of processes look like",
        description="Prints workers, lanes, memory, leader, endpoints and drops of the services of this user that run with otel_perf on this machine, and "
        "what is wrong with them. It only looks: nothing that runs is changed. The exit status is 1 if something is wrong.",
    )
    doctor.add_argument("--service", metavar="NAME", help="only the groups of this service (OTEL_SERVICE_NAME)")
    doctor.add_argument(
        "--segment",
        metavar="PATH",
        help="only the group with this segment, for example /dev/shm/otel_perf-0-1234-89abcdef",
    )
    doctor.add_argument("--json", action="store_true", help="print a list of JSON objects, one for each group")
    chosen = parser.parse_args(arguments)
    if chosen.version:
        from otel_perf.segment import VERSION  # noqa: PLC0415 - loads native code.

        print(f"otel-perf {VERSION}")  # noqa: T201 - it is a command.
        return 0
    if chosen.command is None:
        parser.print_help()
        return 2
    from otel_perf.cli.doctor import run  # noqa: PLC0415 - loads native code.

    return run(service=chosen.service, segment=chosen.segment, as_json=chosen.json)
