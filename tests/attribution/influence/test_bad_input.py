"""Every failure names the record or the file, and nothing becomes a silent zero."""

import shutil

import pytest

torch = pytest.importorskip("torch")

from attribution.influence.build import build_with  # noqa: E402
from attribution.influence.errors import (  # noqa: E402
    AdapterMismatchError,
    IndexFileError,
    InfluenceError,
    QueryError,
    RecordError,
    UnsupportedAdapterError,
)
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.index import FILES, Index  # noqa: E402
from attribution.influence.model import adapt, load  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    from attribution.influence.config import InfluenceConfig

    folder = tmp_path_factory.mktemp("index")
    config = InfluenceConfig(fit_min=12, shard_records=7, batch_tokens=48)
    build_with(model, config, tiny_examples(), folder)
    return folder


@pytest.mark.parametrize(
    ("ids", "mask", "reason"),
    [
        ([], [], "empty"),
        ([1, 2, 3], [0, 0, 0], "empty"),
        ([1, 2, 3], [1, 0, 0], "empty"),  # nothing comes before the first token
        ([1] * 40, [1] * 40, "40 tokens, more than the model's context 32"),
        ([1, 2, 3], [1], "loss mask of 1"),
    ],
)
def test_a_bad_record_is_named(model, config, tmp_path, ids, mask, reason):
    examples = [*tiny_examples(), IndexedExample("the-bad-one", "g", ids, mask)]
    with pytest.raises(RecordError, match=reason) as caught:
        build_with(model, config, examples, tmp_path)
    assert "the-bad-one" in str(caught.value)
    assert not (tmp_path / "manifest.json").exists()


def test_a_record_that_stands_twice_is_named(model, config, tmp_path):
    with pytest.raises(RecordError, match=r"record-003.*twice"):
        build_with(model, config, [*tiny_examples(), tiny_examples()[3]], tmp_path)


def test_no_records_make_no_index(model, config, tmp_path):
    with pytest.raises(InfluenceError, match="at least one record"):
        build_with(model, config, [], tmp_path)


def test_a_gradient_that_is_no_number_names_its_record(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    only_here = 47
    examples = [
        IndexedExample(e.record_id, e.group_id, [t % 40 for t in e.input_ids], e.loss_mask)
        for e in tiny_examples(30)
    ]
    culprit = IndexedExample("not-a-number", "group-0", [only_here, 1, 2, 3], [0, 1, 1, 1])
    build_config = type(config)(fit_fraction=0.01, fit_min=12, batch_tokens=48)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[only_here] = float("nan")
    with pytest.raises(RecordError, match=r"not-a-number.*not a finite number"):
        build_with(model, build_config, [*examples, culprit], tmp_path / "index")


def test_an_adapter_of_zeros_is_refused(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    for block in model.blocks:
        torch.nn.init.zeros_(block.module.weight)
    with pytest.raises(InfluenceError, match="zero or not a finite"):
        build_with(model, config, tiny_examples(), tmp_path / "index")


@pytest.mark.parametrize(
    ("ids", "mask", "reason"),
    [
        ([1, 2, 3], [0, 0, 0], "no answer tokens"),
        ([1], [1], "empty"),
        ([1] * 40, [1] * 40, "context 32"),
    ],
)
def test_a_bad_query_is_refused(model, built, ids, mask, reason):
    with pytest.raises(QueryError, match=reason):
        Scorer.of(Index.open(built), model).score(ids, mask)


def test_an_index_of_another_adapter_is_refused(built, tmp_path):
    other = save_tiny_adapter(tmp_path, seed=1)
    with pytest.raises(AdapterMismatchError, match="was built for adapter"):
        Scorer.load(Index.open(built), *other, "cpu")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(built, tmp_path, name):
    copy = shutil.copytree(built, tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(IndexFileError, match=f"{name}: it is truncated"):
        Index.open(copy, verify=False)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(built, tmp_path, name):
    copy = shutil.copytree(built, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(IndexFileError, match=f"{name}: it was altered"):
        Index.open(copy)


def test_a_missing_file_is_named(built, tmp_path):
    copy = shutil.copytree(built, tmp_path / "copy")
    (copy / "sums.npy").unlink()
    with pytest.raises(IndexFileError, match=r"sums\.npy: it is missing"):
        Index.open(copy)


def test_an_altered_manifest_is_found(built, tmp_path):
    copy = shutil.copytree(built, tmp_path / "copy")
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"count":8', '"count":9', 1))
    with pytest.raises(IndexFileError, match=r"manifest\.json: its root is not the root"):
        Index.open(copy)


def test_a_model_without_lora_is_refused():
    with pytest.raises(UnsupportedAdapterError, match="no LoRA matrices"):
        adapt(torch.nn.Linear(2, 2), device="cpu")


def test_an_exploding_gradient_names_its_record(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    examples = [
        IndexedExample(e.record_id, e.group_id, [t % 40 for t in e.input_ids], e.loss_mask)
        for e in tiny_examples(30)
    ]
    culprit = IndexedExample("explodes", "group-0", [47, 1, 2, 3], [0, 1, 1, 1])
    build_config = type(config)(fit_fraction=0.01, fit_min=12, batch_tokens=48)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[47] = float("inf")
    with pytest.raises(RecordError, match=r"explodes.*not a finite number"):
        build_with(model, build_config, [*examples, culprit], tmp_path / "index")


def test_an_answer_whose_gradient_is_no_number_is_refused(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    build_with(model, config, tiny_examples(), tmp_path / "index")
    scorer = Scorer.of(Index.open(tmp_path / "index"), model)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[47] = float("nan")
    with pytest.raises(QueryError, match="not a finite number"):
        scorer.score([47, 1, 2, 3], [0, 1, 1, 1])


def test_a_loud_record_earns_no_more_than_the_clip(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    loud = [47] * 30  # a token that no other record has, with an embedding far out
    with torch.no_grad():
        model.network.get_input_embeddings().weight[47] *= 1e4
    examples = [
        IndexedExample(e.record_id, "the-others", [t % 40 for t in e.input_ids], e.loss_mask)
        for e in tiny_examples(24)
    ]
    examples.append(IndexedExample("loud", "alone", loud, [0] + [1] * 29))
    build_with(model, config, examples, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    alone = index.sums[index.manifest.group_ids.index("alone")].astype(float)
    assert (alone @ alone) ** 0.5 <= 32_767 * 1.001


@pytest.mark.parametrize("room", [600, 4_000, 12_000])
def test_a_full_disk_names_the_file_and_the_build_goes_on_later(model, config, tmp_path, room):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow past this, which the system tells by the same error as a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(IndexFileError, match=r"(npz|npy|jsonl|json).*cannot be written"):
            build_with(model, config, tiny_examples(), tmp_path / "index")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "index" / "manifest.json").exists()
    build_with(model, config, tiny_examples(), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert index.committed_root() == index.manifest.root
