"""The last few models with their indexes in memory: an answer costs one gradient and dot products.

Imported by tasks alone: this module brings torch.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict

import torch
from django.utils import timezone

from attribution import averaging, index_files
from attribution.building import adapter_of
from attribution.index_files import LostIndexError
from attribution.influence.index import Index as IndexFiles
from attribution.influence.scorer import Scorer
from attribution.models import Index
from attribution.services import indexes
from modelfactory.models import Model
from modelfactory.training.devices import choose_device

logger = logging.getLogger(__name__)

KEPT = 4
THREADS = int(os.environ.get("ATTRIBUTE_THREADS", "1"))

_scorers: OrderedDict[str, Scorer] = OrderedDict()
_lock = threading.Lock()


def scorer_for(row: Index, model: Model) -> Scorer:
    """The model and its index in memory, loaded by the first who asks. Raises InfluenceError;
    LostIndexError where the store has lost the index, which is seen to."""
    with _lock:
        if row.root in _scorers:
            _scorers.move_to_end(row.root)
            return _scorers[row.root]
        torch.set_num_threads(THREADS)
        opened = _opened(row)
        with adapter_of(model) as adapter:
            scorer = Scorer.of(opened, averaging.loaded(model, adapter, choose_device()[0]))
        _scorers[row.root] = scorer
        while len(_scorers) > KEPT:
            _scorers.popitem(last=False)
        return scorer


def clear() -> None:
    """Keep none: the next answer reads its index anew."""
    with _lock:
        _scorers.clear()


def still_there(row: Index) -> IndexFiles | None:
    """The index that is about to be revised; None where it is lost. Raises StoreAwayError."""
    try:
        return index_files.open_index(row)
    except LostIndexError as error:
        logger.warning("index %s is lost: %s", row.pk, error)
        return None


def _opened(row: Index) -> IndexFiles:
    try:
        return index_files.open_index(row)
    except LostIndexError as error:
        logger.warning("index %s is lost: %s", row.pk, error)
        indexes.lose(index_id=row.pk, root=row.root, reason=str(error), at=timezone.now())
        raise
