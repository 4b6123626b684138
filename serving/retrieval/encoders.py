"""What makes vectors of texts: a configured sentence encoder, else the base's hidden states.

Imported by workers alone: this module brings torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from django.conf import settings
from tokenizers import Tokenizer

from modelfactory.models import BaseModel
from modelfactory.training.devices import choose_device
from serving.embedding_work import embedder_for
from serving.engine.embedding import Embedder, Floats
from serving.prompts import tokenizer_of

# Tokens of a text that its vector is made of; the rest adds little and costs as much.
LONGEST = 256


@dataclass(frozen=True, slots=True)
class Encoder:
    """`name` tells vectors of one encoder from another's."""

    name: str
    embedder: Embedder
    encode: Callable[[str], Sequence[int]]

    def vectors(self, texts: Sequence[str]) -> Floats:
        """(texts, dimensions), each of length 1; zeros for a text without tokens."""
        ids = [list(self.encode(text))[:LONGEST] for text in texts]
        found = np.zeros((len(ids), self.embedder.dimensions), np.float32)
        places = [place for place, one in enumerate(ids) if one]
        if places:
            found[places] = self.embedder.vectors([ids[place] for place in places])
        return found


_sentence: dict[str, Encoder] = {}
_lock = threading.Lock()


def encoder_for(base: BaseModel) -> Encoder:
    """Raises OSError or ValueError where the configured folder holds no encoder."""
    if settings.RETRIEVAL_ENCODER:
        return _sentence_encoder(Path(settings.RETRIEVAL_ENCODER))
    return Encoder(
        f"hidden-states:{base.weights_sha256}", embedder_for(base), tokenizer_of(base).encode
    )


def _sentence_encoder(folder: Path) -> Encoder:
    """A transformers encoder with its tokenizer.json, averaged over its tokens."""
    with _lock:
        if str(folder) not in _sentence:
            device, _ = choose_device()
            digest = hashlib.sha256()
            for weights in sorted(folder.glob("*.safetensors")):
                with weights.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            _sentence[str(folder)] = Encoder(
                f"sentence:{digest.hexdigest()}",
                Embedder(folder, device=device),
                lambda text: tokenizer.encode(text).ids,
            )
        return _sentence[str(folder)]
