"""An adapter as one blob that the native step reads where it lies.

A blob is a header, a table with an entry for each layer and module, and the matrices in bfloat16 in
the order in which a step reads them. Nothing is decoded when it is used: the blob's address is the
row's adapter. The layout is told in `native/adapters.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import torch
from torch.nn import functional

from serving.engine.adapters import Adapter, LoraWeights
from serving.engine.native.layout import MODULES, PANEL, padded
from serving.engine.types import MAX_RANK, AdapterRejected

MAGIC = b"OLLORA01"
HEADER = struct.Struct("<8siiq40x")
ENTRY = struct.Struct("<ifqqq")
ALIGNMENT = 64
CHUNK = 8  # ranks that are multiplied side by side


def pack_adapter(adapter: Adapter, places: Mapping[str, tuple[int, int]], layers: int) -> bytes:
    """`places` says for each linear layer's path which layer and module it is."""
    table = [ENTRY.pack(0, 0.0, 0, 0, 0)] * (layers * len(MODULES))
    at = HEADER.size + ENTRY.size * len(table)
    pieces: list[bytes] = []

    def put(data: bytes) -> int:
        nonlocal at
        gap = -at % ALIGNMENT
        pieces.append(b"\0" * gap + data)
        at += gap + len(data)
        return at - len(data)

    for module in sorted(adapter.layers, key=lambda name: places[name]):
        weights = adapter.layers[module]
        layer, kind = places[module]
        table[layer * len(MODULES) + kind] = ENTRY.pack(
            weights.down.shape[0],
            weights.scaling,
            put(_down(weights)),
            put(_up(weights)),
            0 if weights.rescale is None else put(_rescale(weights.rescale)),
        )
    return HEADER.pack(MAGIC, layers, len(MODULES), at) + b"".join([*table, *pieces])


def check_blob(blob: bytes | memoryview, shapes: Mapping[tuple[int, int], tuple[int, int]]) -> None:
    """Refuse what a step would read beyond the blob's end, before it is asked to.

    `shapes` are (inputs, outputs) for each layer and module. Raises AdapterRejected.
    """
    layers = max(layer for layer, _ in shapes) + 1
    table = HEADER.size + ENTRY.size * layers * len(MODULES)
    if len(blob) < table:
        raise AdapterRejected("The packed adapter is of another base, or cut off.")
    if HEADER.unpack_from(blob) != (MAGIC, layers, len(MODULES), len(blob)):
        raise AdapterRejected("The packed adapter is of another base or another version.")
    entries = ENTRY.iter_unpack(blob[HEADER.size : table])
    for place, (rank, _, down, up, rescale) in enumerate(entries):
        if rank == 0:
            continue
        shape = shapes.get(divmod(place, len(MODULES)))
        if shape is None or not 0 < rank <= MAX_RANK:
            raise AdapterRejected("The packed adapter is of another base.")
        inputs, outputs = (padded(width) for width in shape)
        ends = (down + 2 * rank * inputs, up + 2 * rank * outputs, rescale + 4 * outputs)
        if min(down, up, rescale) < 0 or max(ends if rescale else ends[:2]) > len(blob):
            raise AdapterRejected("The packed adapter is of another base, or cut off.")


def unpack_adapter(
    name: str, blob: memoryview, shapes: Mapping[str, tuple[tuple[int, int], tuple[int, int]]]
) -> Adapter:
    """`pack_adapter` undone, of a blob that `check_blob` let pass.

    `shapes` says for each linear layer's path its place and its (inputs, outputs).
    """
    found: dict[str, LoraWeights] = {}
    for module, ((layer, kind), (inputs, outputs)) in shapes.items():
        entry = HEADER.size + ENTRY.size * (layer * len(MODULES) + kind)
        rank, scaling, down, up, rescale = ENTRY.unpack_from(blob, entry)
        if not rank:
            continue
        sizes = [min(CHUNK, rank - begin) for begin in range(0, rank, CHUNK)]
        words = torch.split(
            _read(blob, down, rank * padded(inputs)), [n * padded(inputs) for n in sizes]
        )
        downs = [_rows(one.view(-1, n, PANEL // 2, 2)) for one, n in zip(words, sizes, strict=True)]
        ups = _rows(_read(blob, up, rank * padded(outputs)).view(-1, rank, PANEL // 2, 2))
        magnitudes = None
        if rescale:
            magnitudes = _read(blob, rescale, 2 * outputs).view(torch.float32)
        found[module] = LoraWeights(
            torch.cat(downs)[:, :inputs].contiguous(),
            ups[:, :outputs].T.contiguous(),
            scaling,
            magnitudes,
        )
    return Adapter(
        name=name,
        rank=max((len(layer.down) for layer in found.values()), default=0),
        layers=found,
        bytes=len(blob),
    )


def _read(blob: memoryview, offset: int, words: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(blob[offset : offset + 2 * words]), dtype=torch.int16)


def _rows(words: torch.Tensor) -> torch.Tensor:
    """`_words` undone: (blocks, rows, 16, 2) -> bfloat16 (rows, padded width)."""
    blocks, rows = words.shape[:2]
    whole = words.transpose(0, 1).transpose(2, 3).reshape(rows, blocks * PANEL)
    return whole.contiguous().view(torch.bfloat16)


def _words(matrix: torch.Tensor) -> torch.Tensor:
    """bfloat16 (rows, width) -> int16 pairs (rows, blocks, 16, 2): element j with 16 + j."""
    rows, width = matrix.shape
    whole = functional.pad(matrix, (0, padded(width) - width)).view(torch.int16)
    return whole.reshape(rows, -1, 2, PANEL // 2).transpose(2, 3)


def _down(weights: LoraWeights) -> bytes:
    chunks = torch.split(_words(weights.down), CHUNK)
    return b"".join(_bytes(chunk.transpose(0, 1)) for chunk in chunks)


def _up(weights: LoraWeights) -> bytes:
    return _bytes(_words(weights.up.T.contiguous()).transpose(0, 1))


def _rescale(rescale: torch.Tensor) -> bytes:
    return _bytes(functional.pad(rescale, (0, padded(len(rescale)) - len(rescale))))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
