"""The log from outside, on one's own machine.

python -m attribution.translog verify receipt.json       checks a receipt
    --private private.json --index FOLDER                computes its influences again
python -m attribution.translog witness https://…/log/    cosigns the newest head, once
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attribution.translog import canonical
from attribution.translog.checkpoint import (
    Checkpoint,
    NoteError,
    VerifierKey,
    load_or_create_key,
    open_checkpoint,
)
from attribution.translog.log import CHECKPOINT_PATH
from attribution.translog.recompute import recompute
from attribution.translog.tiles import FolderStore, Reader
from attribution.translog.verify import Report, verify
from attribution.translog.witness import (
    FileState,
    HttpReader,
    Witness,
    WitnessError,
    cosigner_key,
)

HOLDS, FAILS, UNREADABLE = 0, 1, 2
MAX_FILE = 64_000_000
MARKS = {True: "ok  ", False: "FAIL", None: "-   "}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.command == "witness":
        return witness(options)
    try:
        key = VerifierKey.parse(options.key) if options.key else None
        since = read_checkpoint(options.since, key) if options.since else None
        bundle = read_bundle(options.file)
        private = read_bundle(options.private) if options.private else None
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return UNREADABLE
    report = verify(bundle, key=key, since=since)
    if private is not None:
        recompute(
            report,
            (isinstance(bundle, dict) and bundle.get("receipt")) or {},
            private,
            options.index,
        )
    what = "receipt" if not isinstance(bundle, dict) or "receipt" in bundle else "statement"
    show(report, options.format, what)
    return HOLDS if report.holds else FAILS


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m attribution.translog", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="check a receipt against the log")
    command.add_argument("file", help="the receipt as JSON, or - for standard input")
    command.add_argument("--key", help="the log's key (name+id+base64), known from elsewhere")
    command.add_argument("--since", type=Path, help="a signed checkpoint that you kept (--key too)")
    command.add_argument("--private", help="its private part, for who may read that")
    command.add_argument(
        "--index", type=Path, help="folder with the files of its index (--private too)"
    )
    command.add_argument("--format", choices=["text", "json"], default="text")
    follow = commands.add_parser("witness", help="cosign the log's newest head if it is consistent")
    follow.add_argument("log", help="where the log is, ending with a slash, or a folder")
    follow.add_argument("--log-key", required=True, help="the log's key (name+id+base64)")
    follow.add_argument("--name", required=True, help="the witness's name, such as its address")
    follow.add_argument("--folder", type=Path, required=True, help="its key and its last head")
    options = parser.parse_args(arguments)
    if options.command == "witness":
        return options
    if options.since and not options.key:
        parser.error("--since needs --key")
    if options.index and not options.private:
        parser.error("--index needs --private")
    return options


def witness(options: argparse.Namespace) -> int:
    """Prints the cosigned checkpoint; the key is made in the folder where there is none."""
    folder: Path = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key = load_or_create_key(folder / "witness.ed25519", options.name)
        follower = Witness(key, VerifierKey.parse(options.log_key), FileState(folder / "head"))
        over_http = options.log.startswith(("http://", "https://"))
        store: Reader = HttpReader(options.log) if over_http else FolderStore(Path(options.log))
        note = store.read(CHECKPOINT_PATH).decode()
        print(follower.cosign(note, store, at=int(time.time())), end="")
    except WitnessError as error:
        print(f"not cosigned: {error}", file=sys.stderr)
        return FAILS
    except (OSError, ValueError) as error:
        print(f"{options.log}: {error}", file=sys.stderr)
        return UNREADABLE
    print(f"witness key: {cosigner_key(key.verifier)}", file=sys.stderr)
    return HOLDS


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


def show(report: Report, form: str, what: str) -> None:
    if form == "json":
        checks = [asdict(check) for check in report.checks]
        print(json.dumps({"holds": report.holds, "checks": checks}))
        return
    for check in report.checks:
        print(f"{MARKS[check.holds]} {check.name:<13} {check.detail}")
    print(f"the {what} holds" if report.holds else f"the {what} does not hold")


if __name__ == "__main__":
    sys.exit(main())
