"""`python -m modelfactory.training JOB_DIR` trains what the folder's job.json asks for.

Exit status: 0 finished, 1 failed (the last event says why), 3 told to stop.
"""

import argparse
import os
import sys
from pathlib import Path

# cuBLAS reads this when torch is imported; without it equal seeds differ on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from modelfactory.training.train import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m modelfactory.training", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="JOB_DIR")
    return int(run(parser.parse_args().folder))


if __name__ == "__main__":
    sys.exit(main())
