"""Make a part of a planned build, on a machine that has the plan's folder, the base model and the
adapter, and nothing else of ours:

    python -m attribution.influence part PLAN_FOLDER NUMBER BASE_FOLDER ADAPTER_FOLDER

The shards stand in the plan's folder afterwards; a part that was stopped goes on after its last
one. Ends with 1 and one line where a record or a file is at fault. See `parts`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attribution.influence.errors import InfluenceError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m attribution.influence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")
    part = commands.add_parser("part", help="make one part's shards")
    part.add_argument("plan", type=Path, help="the plan's folder")
    part.add_argument("number", type=int, help="which part, from 0")
    part.add_argument("base", type=Path, help="the base model's folder")
    part.add_argument("adapter", type=Path, help="the adapter's folder")
    part.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an earlier state of the adapter that the plan averages over; once for each",
    )
    part.add_argument("--device", default="cpu", help="cpu or cuda")
    part.add_argument("--threads", type=int, default=1, help="of the processor; the same for all")
    options = parser.parse_args(arguments)
    try:
        made = _make(options)
    except InfluenceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Part {options.number}: {made} shards in {options.plan}.\n")
    return 0


def _make(options: argparse.Namespace) -> int:
    import torch

    from attribution.influence.checkpoints import as_indexed
    from attribution.influence.model import load
    from attribution.influence.parts import Plan, make_part

    planned = Plan.open(options.plan)
    if not 0 <= options.number < len(planned.parts):
        raise InfluenceError(f"The plan has the parts 0 to {len(planned.parts) - 1}.")
    torch.set_num_threads(options.threads)
    model = load(options.base, options.adapter, options.device)
    model = as_indexed(model, planned.header, options.checkpoint)
    return len(make_part(model, planned, options.number))


if __name__ == "__main__":
    raise SystemExit(main())
