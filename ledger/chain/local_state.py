"""The local chain's state file, so that the chain has one first block however often it starts.

Anvil makes a genesis by the clock at each start and reads the file over it; what it writes holds
both. From the third start on it is chance which of them block 0 is, and to whoever follows the
chain by the hash of its genesis it is another chain then.

python -m ledger.chain.local_state STATE [COMMAND…]   mends the file, then becomes the command
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# A genesis has no transactions, so nothing in it but its header has braces.
GENESIS = re.compile(rb'\{"header":\{[^{}]*"number":"0x0"[^{}]*\}[^{}]*\}')
TIMESTAMP = re.compile(rb'"timestamp":"0x([0-9a-f]+)"')


def keep_first_genesis(state: Path) -> int:
    """Write the oldest block with number 0 in place of all others in anvil's state file; how many.

    The oldest is the one that block 1 stands on: the others were made by later starts. Anvil keeps
    blocks by their hash, so that it reads equal ones as one. The file is searched and not parsed:
    after days it has hundreds of megabytes.
    """
    if not state.exists():
        return 0
    data = state.read_bytes()
    found = GENESIS.findall(data)
    first = min(found, key=_time_of, default=b"")
    others = len(found) - found.count(first)
    if others:
        beside = state.with_name(f"{state.name}.mended")
        beside.write_bytes(GENESIS.sub(lambda _: first, data))
        beside.replace(state)
    return others


def _time_of(block: bytes) -> int:
    told = TIMESTAMP.search(block)
    return int(told[1], 16) if told else sys.maxsize


def main(arguments: list[str]) -> None:
    """Exec keeps the process, so who started it ends the node with the same signal."""
    state, *command = arguments
    keep_first_genesis(Path(state))
    if command:
        os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
