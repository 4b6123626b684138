"""A Llama-like model of transformers as the tables that the native step reads.

Llama, Qwen 2 and 3, Mistral, Gemma and the SmolLM families are made of the same parts: RMSNorm,
rotated heads that may share keys, a gated MLP, biases or norms here and there. `read_program`
refuses everything else by name; what it takes is compared with transformers' own logits by the
caller before it is used.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from serving.engine.native.layout import (
    MODULES,
    Layer,
    Model,
    Weights,
    pack,
    padded,
    quantise,
    unpack,
)

# How each architecture's RMSNorm uses its weight, and what it multiplies embeddings by.
ARCHITECTURES = {
    "LlamaForCausalLM": "plain",
    "Qwen2ForCausalLM": "plain",
    "Qwen3ForCausalLM": "plain",
    "MistralForCausalLM": "plain",
    "SmolLM3ForCausalLM": "plain",
    "GemmaForCausalLM": "gemma",
}
ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_pytorch_tanh": 1}
# Tables of these do not depend on how long the row is.
ROPE = ("default", "linear", "llama3", "yarn")


class NotLlamaLike(Exception):
    """The model has a part that the native step does not know."""


@dataclass(slots=True)
class Program:
    """`model` for the library; `held` keeps alive what it points to."""

    model: Model
    held: list[Any]
    packed: dict[str, tuple[torch.Tensor, int, int]]  # linear layer: panels, outputs, inputs
    biases: dict[str, torch.Tensor]
    bytes: int

    @property
    def layers(self) -> int:
        return int(self.model.layers)

    def weight(self, name: str) -> torch.Tensor:
        """A linear layer's weight as transformers has it (outputs, inputs)."""
        panels, outputs, inputs = self.packed[name]
        return unpack(panels, outputs, inputs)


def read_program(model: Any, context: int, *, int8: bool = False) -> Program:
    """Pack the weights of a float32 model on the CPU, with `int8` in bytes. Raises NotLlamaLike."""
    return _Reader(model, context, int8).read()


class _Reader:
    def __init__(self, model: Any, context: int, int8: bool) -> None:
        self.causal, self.config = model, model.config
        self.pack = quantise if int8 else pack
        self.inside: Any = getattr(model, "model", None)
        self.context = context
        self.held: list[Any] = []
        self.packed: dict[str, tuple[torch.Tensor, int, int]] = {}
        self.biases: dict[str, torch.Tensor] = {}
        self.bytes = 0

    def read(self) -> Program:
        self._refuse_what_is_unknown()
        config, first = self.config, self.inside.layers[0].self_attn
        size = int(first.head_dim)
        cosines, sines = self._rotations(size)
        layers = (Layer * config.num_hidden_layers)(
            *(self._layer(number) for number in range(config.num_hidden_layers))
        )
        self.held.append(layers)
        gemma = ARCHITECTURES[type(self.causal).__name__] == "gemma"
        scale = float(torch.tensor(config.hidden_size**0.5)) if gemma else 1.0
        found = Model(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            size=size,
            inner=config.intermediate_size,
            vocabulary=config.vocab_size,
            activation=ACTIVATIONS[self._activation()],
            epsilon=config.rms_norm_eps,
            scale=first.scaling,
            embedding_scale=scale,
            embedding=self._keep(self.inside.embed_tokens.weight),
            norm=self._norm(self.inside.norm),
            cosines=self._keep(cosines),
            sines=self._keep(sines),
            head=self._weights("lm_head", [self.causal.lm_head]),
            layer=ctypes.cast(layers, ctypes.POINTER(Layer)),
        )
        return Program(found, self.held, self.packed, self.biases, self.bytes)

    def _activation(self) -> str:
        config = self.config
        return str(getattr(config, "hidden_activation", None) or config.hidden_act)

    def _refuse_what_is_unknown(self) -> None:
        name, config = type(self.causal).__name__, self.config
        if name not in ARCHITECTURES:
            raise NotLlamaLike(f"{name} is not one of {', '.join(ARCHITECTURES)}.")
        if self._activation() not in ACTIVATIONS:
            raise NotLlamaLike(f"The activation {self._activation()} is unknown.")
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type", "default") not in ROPE:
            raise NotLlamaLike(f"The rotation {rope.get('rope_type')} changes with the length.")
        if self.inside.layers[0].self_attn.head_dim % 16:
            raise NotLlamaLike("Heads are multiples of 16 wide.")
        for parameter in self.causal.parameters():
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                raise NotLlamaLike("The native step computes in float32 on the CPU.")

    def _rotations(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (context, size / 2)."""
        positions = torch.arange(self.context)[None]
        cosines, sines = self.inside.rotary_emb(torch.zeros(1, 1, 1), positions)
        if cosines.shape[-1] != size:
            raise NotLlamaLike("Heads are rotated as a whole.")
        return cosines[0, :, : size // 2], sines[0, :, : size // 2]

    def _layer(self, number: int) -> Layer:
        block = self.inside.layers[number]
        attention, mlp, prefix = block.self_attn, block.mlp, f"model.layers.{number}"
        q, k, v, o, gate, up, down = MODULES
        query_norm, key_norm = (
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
        )
        return Layer(
            before_attention=self._norm(block.input_layernorm),
            before_mlp=self._norm(block.post_attention_layernorm),
            query_norm=self._norm(query_norm) if query_norm is not None else None,
            key_norm=self._norm(key_norm) if key_norm is not None else None,
            qkv=self._weights(
                f"{prefix}.self_attn", [getattr(attention, m) for m in (q, k, v)], (q, k, v)
            ),
            output=self._weights(f"{prefix}.self_attn", [attention.o_proj], (o,)),
            gate_up=self._weights(f"{prefix}.mlp", [mlp.gate_proj, mlp.up_proj], (gate, up)),
            down=self._weights(f"{prefix}.mlp", [mlp.down_proj], (down,)),
            # SmolLM 3 leaves some layers without positions.
            rotates=int(bool(getattr(attention, "use_rope", True))),
        )

    def _norm(self, norm: Any) -> int:
        weight = norm.weight
        if ARCHITECTURES[type(self.causal).__name__] == "gemma":
            weight = weight + 1.0
        return self._keep(weight)

    def _weights(
        self, prefix: str, linears: list[nn.Linear], names: tuple[str, ...] = ()
    ) -> Weights:
        """Several layers with the same input as one product, each padded to whole panels."""
        panels = torch.cat([self.pack(linear.weight) for linear in linears])
        self._hold(panels)
        place = 0
        for linear, name in zip(linears, names, strict=False):
            count = padded(linear.out_features) // 32
            mine = panels[place : place + count]
            self.packed[f"{prefix}.{name}"] = (mine, linear.out_features, linear.in_features)
            if linear.bias is not None:
                self.biases[f"{prefix}.{name}"] = linear.bias
            place += count
        bias = None
        if any(linear.bias is not None for linear in linears):
            parts = []
            for linear in linears:
                part = torch.zeros(padded(linear.out_features))
                if linear.bias is not None:
                    part[: linear.out_features] = linear.bias
                parts.append(part)
            bias = self._keep(torch.cat(parts))
        is_int8 = panels.dtype == torch.uint8
        return Weights(
            packed=None if is_int8 else panels.data_ptr(),
            bias=bias,
            inputs=padded(linears[0].in_features),
            outputs=panels.shape[0] * 32,
            bytes=panels.data_ptr() if is_int8 else None,
        )

    def _keep(self, tensor: torch.Tensor) -> int:
        """The address of a contiguous float32 copy or view that lives as long as the program."""
        return self._hold(tensor.detach().float().contiguous())

    def _hold(self, kept: torch.Tensor) -> int:
        self.held.append(kept)
        self.bytes += kept.nbytes
        return kept.data_ptr()
