"""`python -m config.embedded`: what the Makefile calls.

demo                    everything up with sample data, until Ctrl-C
tour -- COMMAND         COMMAND on the running product, else on one started for it
services -- COMMAND     COMMAND on a PostgreSQL and a Redis that live as long as it does
install                 the anvil binary, where none is on the PATH
browser                 print the path of a Chromium, installing one where there is none
"""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m config.embedded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["demo", "tour", "services", "install", "browser"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(arguments)
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if chosen.action in ("tour", "services") and not command:
        parser.error(f"{chosen.action} needs a command")
    return _act(chosen.action, command)


def _act(action: str, command: list[str]) -> int:
    # Imported where needed: `install` must work before anything else does.
    if action == "demo":
        from config.embedded.demo import demo

        return demo()
    if action == "tour":
        from config.embedded.demo import tour

        return tour(command)
    if action == "services":
        from config.embedded.temporary import run_with_services

        return run_with_services(command)
    if action == "install":
        return _install()
    from config.embedded.browser import ensure_chromium

    sys.stdout.write(f"{ensure_chromium()}\n")
    return 0


def _install() -> int:
    from config.embedded import chain

    try:
        sys.stdout.write(f"anvil: {chain.install()}\n")
    except RuntimeError as error:
        # The product runs without a chain; who needs one is told by `make demo` and by `doctor`.
        sys.stderr.write(f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
