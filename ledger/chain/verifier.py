"""Checks a distribution from its published file alone: for auditors, without the application.

    python -m ledger.chain.distribution verify FILE --root 0x… --data-hash 0x… --account 0x…

rebuilds the tree from the leaves, compares its root and the file's SHA-256 with what the chain
says (`RewardDistributor.root()` and the event `LeavesPublished`), and prints an account's proof.
Exits 0 where all holds, 1 where something differs, 2 where the file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.chain import distribution, leaf_file
from ledger.chain.distribution import DistributionError
from ledger.chain.leaf_file import Published


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        published = leaf_file.read(options.file)
    except (OSError, ValueError) as error:
        return _print({"ok": False, "problems": [f"{options.file}: {error}"]}, 2)
    problems = published.problems + _differences(published, options)
    answer: dict[str, Any] = {
        "ok": not problems,
        "problems": problems,
        "root": published.tree.root_hex,
        "data_hash": "0x" + published.sha256,
        "epoch": published.epoch,
        "chain_id": published.tree.chain_id,
        "distributor": published.tree.distributor,
        "accounts": len(published.tree),
        "total": str(published.tree.total),
    }
    if options.account:
        try:
            answer["claim"] = _claim(published, options.account)
        except (KeyError, ValueError) as error:
            problems.append(f"{options.account}: not in this file ({error}).")
            answer["ok"] = False
    return _print(answer, 1 if problems else 0)


def _claim(published: Published, account: str) -> dict[str, Any]:
    """What the account shows the contract: `claim(account, cumulative, proof)`."""
    tree = published.tree
    found = tree.claim(account)
    leaf = distribution.leaf(
        chain_id=tree.chain_id,
        distributor=tree.distributor,
        account=found.account,
        cumulative=found.cumulative,
    )
    if not distribution.verify(root=tree.root, leaf=leaf, proof=found.proof):
        raise DistributionError("its proof does not lead to the root")
    return {
        "account": found.account,
        "cumulative": str(found.cumulative),
        "leaf": "0x" + leaf.hex(),
        "proof": found.proof_hex,
    }


def _differences(published: Published, options: argparse.Namespace) -> list[str]:
    found = []
    if options.root and not _same(options.root, published.tree.root_hex):
        found.append(f"The leaves make the root {published.tree.root_hex}, not {options.root}.")
    if options.data_hash and not _same(options.data_hash, published.sha256):
        found.append(f"The file's SHA-256 is 0x{published.sha256}, not {options.data_hash}.")
    return found


def _same(one: str, other: str) -> bool:
    return one.lower().removeprefix("0x") == other.lower().removeprefix("0x")


def _print(answer: dict[str, Any], status: int) -> int:
    json.dump(answer, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ledger.chain.distribution")
    commands = parser.add_subparsers(required=True)
    verify = commands.add_parser("verify", help="rebuild a distribution from its file")
    verify.add_argument("file", type=Path, help="the downloaded file of leaves")
    verify.add_argument("--root", default="", help="the root that the contract holds")
    verify.add_argument("--data-hash", default="", help="what LeavesPublished says, in hex")
    verify.add_argument("--account", default="", help="print the claim of this address")
    return parser
