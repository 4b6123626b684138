"""The structures of step.cpp as ctypes, and the packing of the base's weights."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p

import torch
from torch.nn import functional

PANEL = 32
PAGE = 16  # tokens of a page of the cache
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Weights(Structure):
    _fields_ = (
        ("packed", c_void_p),
        ("bias", c_void_p),
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("bytes", c_void_p),
    )


class Layer(Structure):
    _fields_ = (
        ("before_attention", c_void_p),
        ("before_mlp", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("qkv", Weights),
        ("output", Weights),
        ("gate_up", Weights),
        ("down", Weights),
        ("rotates", c_int32),
        ("reserved", c_int32),
    )


class Model(Structure):
    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("size", c_int32),
        ("inner", c_int32),
        ("vocabulary", c_int32),
        ("activation", c_int32),
        ("epsilon", c_float),
        ("scale", c_float),
        ("embedding_scale", c_float),
        ("reserved", c_float),
        ("embedding", c_void_p),
        ("norm", c_void_p),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("head", Weights),
        ("layer", POINTER(Layer)),
    )


class Cache(Structure):
    _fields_ = (("keys", c_void_p), ("values", c_void_p), ("pages", c_int64))


class Step(Structure):
    _fields_ = (
        ("tokens", c_int32),
        ("wanted", c_int32),
        ("threads", c_int32),
        ("page_columns", c_int32),
        ("ids", c_void_p),
        ("positions", c_void_p),
        ("rows", c_void_p),
        ("pages", c_void_p),
        ("adapters", c_void_p),
        ("outputs", c_void_p),
        ("logits", c_void_p),
    )


def padded(width: int) -> int:
    return -(-width // PANEL) * PANEL


def pack(weight: torch.Tensor) -> torch.Tensor:
    """(outputs, inputs) -> (padded outputs / 32, padded inputs, 32), zeros where it pads."""
    outputs, inputs = weight.shape
    whole = functional.pad(
        weight.detach().float(), (0, padded(inputs) - inputs, 0, padded(outputs) - outputs)
    )
    return whole.reshape(-1, PANEL, whole.shape[1]).transpose(1, 2).contiguous()


def quantise(weight: torch.Tensor) -> torch.Tensor:
    """(outputs, inputs) -> (padded outputs / 32, padded inputs / 32, 1152) bytes.

    A group is 32 outputs by 32 inputs: 8 x 32 outputs x 4 inputs as bytes with 128 for nought,
    then 32 float scales, so that an output's largest weight in the group is 127 scales.
    """
    outputs, inputs = weight.shape
    whole = functional.pad(
        weight.detach().float(), (0, padded(inputs) - inputs, 0, padded(outputs) - outputs)
    ).reshape(-1, PANEL, padded(inputs) // PANEL, PANEL)  # (panels, outputs, groups, inputs)
    scales = whole.abs().amax(-1) / 127
    steps = torch.where(scales > 0, scales, 1.0)[..., None]
    values = (whole / steps).round().add(128).to(torch.uint8)
    values = values.reshape(*values.shape[:3], -1, 4).permute(0, 2, 3, 1, 4)
    kept = scales.transpose(1, 2).contiguous().view(torch.uint8)
    return torch.cat([values.flatten(2), kept], -1).contiguous()


def dequantise(groups: torch.Tensor, outputs: int, inputs: int) -> torch.Tensor:
    """The weights that `quantise` left: (outputs, inputs)."""
    panels, count, _ = groups.shape
    values = groups[..., : PANEL * PANEL].reshape(panels, count, -1, PANEL, 4)
    scales = groups[..., PANEL * PANEL :].contiguous().view(torch.float32)
    whole = (values.float() - 128) * scales[:, :, None, :, None]
    rows = whole.permute(0, 3, 1, 2, 4).reshape(panels * PANEL, count * PANEL)
    return rows[:outputs, :inputs].contiguous()


def unpack(packed: torch.Tensor, outputs: int, inputs: int) -> torch.Tensor:
    """`pack` or `quantise` undone: (outputs, inputs)."""
    if packed.dtype == torch.uint8:
        return dequantise(packed, outputs, inputs)
    whole = packed.transpose(1, 2).reshape(-1, packed.shape[1])
    return whole[:outputs, :inputs].contiguous()
