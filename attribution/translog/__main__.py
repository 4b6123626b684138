"""`python -m attribution.translog verify receipt.json`: check a receipt on one's own machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attribution.translog import canonical
from attribution.translog.checkpoint import Checkpoint, NoteError, VerifierKey, open_checkpoint
from attribution.translog.verify import Report, verify

HOLDS, FAILS, UNREADABLE = 0, 1, 2
MAX_FILE = 64_000_000
MARKS = {True: "ok  ", False: "FAIL", None: "-   "}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        key = VerifierKey.parse(options.key) if options.key else None
        since = read_checkpoint(options.since, key) if options.since else None
        bundle = read_bundle(options.file)
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return UNREADABLE
    report = verify(bundle, key=key, since=since)
    show(report, options.format)
    return HOLDS if report.holds else FAILS


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m attribution.translog", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="check a receipt against the log")
    command.add_argument("file", help="the receipt as JSON, or - for standard input")
    command.add_argument("--key", help="the log's key (name+id+base64), known from elsewhere")
    command.add_argument("--since", type=Path, help="a signed checkpoint that you kept (--key too)")
    command.add_argument("--format", choices=["text", "json"], default="text")
    options = parser.parse_args(arguments)
    if options.since and not options.key:
        parser.error("--since needs --key")
    return options


def read_bundle(name: str) -> Any:
    """Raises OSError or CanonicalError."""
    data = sys.stdin.buffer.read(MAX_FILE + 1) if name == "-" else Path(name).read_bytes()
    if len(data) > MAX_FILE:
        raise canonical.CanonicalError(f"larger than {MAX_FILE} bytes")
    return canonical.loads(data)


def read_checkpoint(path: Path, key: VerifierKey | None) -> Checkpoint:
    """Raises OSError, UnicodeDecodeError or NoteError."""
    if key is None:
        raise NoteError("an earlier checkpoint needs the log's key")
    return open_checkpoint(path.read_bytes().decode(), [key], key.name)


def show(report: Report, form: str) -> None:
    if form == "json":
        checks = [asdict(check) for check in report.checks]
        print(json.dumps({"holds": report.holds, "checks": checks}))
        return
    for check in report.checks:
        print(f"{MARKS[check.holds]} {check.name:<12} {check.detail}")
    print("the receipt holds" if report.holds else "the receipt does not hold")


if __name__ == "__main__":
    sys.exit(main())
