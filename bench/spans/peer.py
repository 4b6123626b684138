"""infini-gram on the same tokens: its own indexer and engine, fed with token files.

Its tokens are 2 bytes little-endian with a separator of 0xFFFF before each document, its suffixes
pointers of as few bytes as the file needs: 2 and 4 to 5 bytes a token.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SEPARATOR = b"\xff\xff"
# Beyond the end of a part that the indexer looks at, as its own script passes it.
OVERLAP = 100_000


def build(folder: Path, documents: Iterable[Sequence[int]]) -> None:
    """Write the documents and have them sorted; blocks until the table stands."""
    folder.mkdir(parents=True)
    tokens, starts, position = folder / "tokenized.0", [], 0
    with tokens.open("wb") as file:
        for document in documents:
            written = SEPARATOR + np.asarray(document, dtype="<u2").tobytes()
            starts.append(position)
            position += len(written)
            file.write(written)
    np.array(starts, dtype="<u8").tofile(folder / "offset.0")
    parts, merged = folder / "parts", folder / "merged"
    parts.mkdir()
    merged.mkdir()
    ratio = str(math.ceil(math.log2(position) / 8))
    common = ("--data-file", tokens, "--ratio", ratio, "--token-width", "2")
    _run("make-part", *common, "--parts-dir", parts, "--start-byte", "0", "--end-byte", position)
    threads = ("--num-threads", "1")
    overlap = ("--hacksize", OVERLAP)
    _run("merge", *common, *threads, *overlap, "--parts-dir", parts, "--merged-dir", merged)
    _run("concat", *common, *threads, "--merged-dir", merged, "--merged-file", folder / "table.0")


def engine(folder: Path, removed: Path | None = None) -> Any:
    """The engine over `folder`, less the documents of `removed`."""
    from infini_gram.engine import InfiniGramEngine, InfiniGramEngineDiff

    settings: dict[str, Any] = {
        "eos_token_id": 65_000,
        "vocab_size": 65_535,
        "token_dtype": "u16",
        "version": 4,
    }
    if removed is None:
        return InfiniGramEngine(index_dir=[str(folder)], **settings)
    return InfiniGramEngineDiff(index_dir=[str(folder)], index_dir_diff=[str(removed)], **settings)


def _run(*words: object) -> None:
    spec = find_spec("infini_gram")
    assert spec is not None
    tool = Path(next(iter(spec.submodule_search_locations or []))) / "rust_indexing"
    subprocess.run([str(tool), *map(str, words)], check=True, stdout=subprocess.DEVNULL)
