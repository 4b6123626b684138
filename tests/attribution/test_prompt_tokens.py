"""Which tokens of a prompt mattered: right by finite differences, and for the payer alone."""

from pathlib import Path

import pytest
from django.urls import reverse

from attribution import selectors
from attribution.translog import canonical
from attribution.verification import verify_receipt

torch = pytest.importorskip("torch")

from attribution.influence.model import load  # noqa: E402
from attribution.influence.prompt_tokens import PARTS, in_parts, prompt_weights  # noqa: E402
from modelfactory.training.prompts import load_tokenizer  # noqa: E402
from serving.prompt_pieces import shaded, whole_characters  # noqa: E402

STARTER = Path(__file__).resolve().parents[2] / "modelfactory" / "starter"
PROMPT, ANSWER = [7, 11, 200, 31, 5], [44, 9, 310]


@pytest.fixture(scope="module")
def model(tiny_folders):
    return load(*tiny_folders, "cpu")


def test_the_weights_are_the_derivatives_along_each_embedding(model):
    """Scaling one token's embedding by 1 + t changes the answer's log-probability by weight · t."""
    network = model.network
    ids = torch.tensor([[*PROMPT, *ANSWER]])
    embedded = network.get_input_embeddings()(ids).detach()

    def value(at, scale):
        changed = embedded.clone()
        changed[0, at] *= scale
        logits = network(inputs_embeds=changed).logits[0, len(PROMPT) - 1 : -1].double()
        return logits.log_softmax(-1)[range(len(ANSWER)), ANSWER].sum().item()

    step = 0.03  # norms are computed in fp32, so a smaller one drowns in rounding
    with torch.no_grad():
        slopes = [
            (value(at, 1 + step) - value(at, 1 - step)) / (2 * step) for at in range(len(PROMPT))
        ]
    found = prompt_weights(model, PROMPT, ANSWER)
    assert (
        max(abs(one - other) for one, other in zip(found, in_parts(slopes), strict=True))
        <= PARTS / 500
    )
    assert sum(map(abs, found)) == pytest.approx(PARTS, abs=len(PROMPT))


def test_it_leaves_the_network_as_it_was(model):
    prompt_weights(model, PROMPT, ANSWER)
    assert all(one.grad is None for one in model.network.parameters())
    assert not any(one.requires_grad for one in model.network.parameters())
    assert prompt_weights(model, PROMPT, ANSWER) == prompt_weights(model, PROMPT, ANSWER)


def test_nothing_to_weigh_gives_nothing(model):
    assert prompt_weights(model, [], ANSWER) == []
    assert prompt_weights(model, PROMPT, []) == []
    assert prompt_weights(model, [1] * 200, ANSWER) == []
    assert in_parts([float("nan"), 1.0]) == in_parts([0.0]) == in_parts([float("inf")]) == []


def test_the_strongest_token_has_the_strongest_shade():
    words = [True, True, True, False]
    pieces = shaded(["a", "b", "c", "<|end|>"], [500, -250, 3, 9000], words)
    assert [piece.shade for piece in pieces] == [4, -2, 0, 0]
    assert shaded(["<|end|>"], [9], [False])[0].shade == 0


def test_the_bytes_of_one_character_stand_together():
    tokenizer = load_tokenizer(STARTER)
    text = "Ünïcode … 你好, plain"
    runs = whole_characters(tokenizer, tokenizer.tokenizer.encode(text).ids)
    texts = [tokenizer.tokenizer.decode(run) for run in runs]
    assert "".join(texts) == text
    assert not any("\ufffd" in one for one in texts)
    assert "你" in texts


def test_bytes_that_are_no_character_are_shown_as_such():
    tokenizer = load_tokenizer(STARTER)
    first = tokenizer.tokenizer.encode("你").ids[0]
    assert whole_characters(tokenizer, [first] * 6) == [[first] * 4, [first] * 2]


@pytest.mark.django_db
def test_they_are_the_payers_alone(client, indexed):
    receipt = indexed.receipt()
    stated = receipt.private["payer"]["prompt_tokens"]
    assert stated["method"] == "captum-input-x-gradient"
    assert sum(map(abs, stated["weights"])) > PARTS * 0.9
    assert receipt.private["payer_sha256"] == canonical.sha256(receipt.private["payer"])
    assert verify_receipt(receipt).holds
    weights = stated["weights"]
    assert selectors.prompt_weights_of(receipt.completion_id, indexed.payer) == weights
    for user in (indexed.alice, indexed.staff, indexed.stranger):
        assert selectors.prompt_weights_of(receipt.completion_id, user) == []
        client.force_login(user)
        answer = client.get(reverse("attribution:private", args=[receipt.pk]))
        assert "prompt_tokens" not in answer.content.decode()
