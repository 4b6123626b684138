"""After a small fine-tune, an answer's influence points at the contributor who taught it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from attribution.influence.build import build  # noqa: E402
from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.gradients import make_batch  # noqa: E402
from attribution.influence.index import Index  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter  # noqa: E402

GROUPS, EACH = 6, 10


def lesson(group: int, number: int, draw: np.random.Generator) -> IndexedExample:
    """Each contributor teaches its own step through the same tokens."""
    begin = int(draw.integers(0, 48))
    ids = [group, *(6 + (begin + place * (group + 2)) % 42 for place in range(12))]
    return IndexedExample(f"{group}-{number}", f"contributor-{group}", ids, [0, 0] + [1] * 11)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("taught")
    base_folder, adapter = save_tiny_adapter(folder, init_lora_weights=True, r=4)
    draw = np.random.default_rng(1)
    lessons = [lesson(group, number, draw) for group in range(GROUPS) for number in range(EACH)]
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    network = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(200):
        few = [lessons[place] for place in draw.permutation(len(lessons))[:16]]
        batch = make_batch(few, torch.device("cpu"))
        logits = network(input_ids=batch.ids, attention_mask=batch.present).logits[:, :-1]
        mask = batch.targets[:, 1:] > 0
        loss = functional.cross_entropy(logits[mask], batch.ids[:, 1:][mask])
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    network.save_pretrained(str(adapter))
    build(InfluenceConfig(), base_folder, adapter, lessons, folder / "index")
    return Scorer.load(Index.open(folder / "index"), base_folder, adapter, "cpu"), draw


def test_the_own_contributor_ranks_first_far_more_often_than_by_chance(taught):
    scorer, draw = taught
    asked = [lesson(group, 100 + number, draw) for group in range(GROUPS) for number in range(5)]
    ranks = []
    for query in asked:
        groups = scorer.score(query.input_ids, query.loss_mask).groups
        ranks.append(sorted(groups, key=lambda name: -groups[name]).index(query.group_id))
    chance = 1 / GROUPS
    assert np.mean(np.array(ranks) == 0) > 2 * chance
    assert np.mean(ranks) < (GROUPS - 1) / 3
