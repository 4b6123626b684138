"""What stands on disk: the same bytes each time, small, checked on opening, resumed."""

import json

import pytest

from attribution.spans import build as build_module
from attribution.spans import layout
from attribution.spans.build import RecordTokens, build
from attribution.spans.errors import SpansFileError, TokenError
from attribution.spans.index import SpanIndex

RECORDS = [RecordTokens(f"r{row}", [row, 1, 2, 3, row % 7, 5]) for row in range(40)]


@pytest.fixture
def folder(tmp_path):
    build(tmp_path / "index", RECORDS, vocabulary=64, segment_tokens=100)
    return tmp_path / "index"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_records_give_the_same_bytes(folder, tmp_path):
    build(tmp_path / "again", RECORDS, vocabulary=64, segment_tokens=100)
    assert contents(folder) == contents(tmp_path / "again")
    assert len(list(folder.glob("suffixes-*"))) == 3
    assert set(contents(folder)) == {layout.MANIFEST, *SpanIndex.open(folder).manifest.files}


def test_a_token_takes_five_bytes_in_a_segment_of_the_default_size():
    assert layout.token_bytes_for(2**16 - 1) == 2
    assert layout.token_bytes_for(2**16) == 3
    assert layout.SegmentShape(1, build_module.SEGMENT_TOKENS).pointer_bytes == 3


@pytest.mark.parametrize(
    "name", ["tokens.bin", "suffixes-00001.bin", "starts.bin", "records.jsonl", "unigrams.bin"]
)
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_file_is_named_on_opening(folder, name, harm):
    path = folder / name
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(SpansFileError, match=name):
        SpanIndex.open(folder)


def test_a_changed_manifest_is_refused(folder):
    path = folder / layout.MANIFEST
    value = json.loads(path.read_text())
    value["header"]["record_count"] = 39
    path.write_text(json.dumps(value))
    with pytest.raises(SpansFileError, match=layout.MANIFEST):
        SpanIndex.open(folder)
    path.write_text("{")
    with pytest.raises(SpansFileError, match=layout.MANIFEST):
        SpanIndex.open(folder)


def test_a_stopped_build_goes_on_with_the_segment_that_is_missing(folder, tmp_path, monkeypatch):
    stopped = tmp_path / "stopped"
    real, sorted_segments = build_module.divsufsort, []

    def dies_at_the_second(data):
        if len(sorted_segments) == 1:
            raise KeyboardInterrupt
        sorted_segments.append(len(data))
        return real(data)

    monkeypatch.setattr(build_module, "divsufsort", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build(stopped, RECORDS, vocabulary=64, segment_tokens=100)
    with pytest.raises(SpansFileError, match="missing"):
        SpanIndex.open(stopped)
    again = []
    monkeypatch.setattr(
        build_module, "divsufsort", lambda data: again.append(len(data)) or real(data)
    )
    build(stopped, RECORDS, vocabulary=64, segment_tokens=100)
    assert len(again) == 2
    assert contents(stopped) == contents(folder)


def test_what_was_sorted_for_other_records_is_sorted_again(folder, tmp_path):
    other = [RecordTokens(one.record_id, one.ids[::-1]) for one in RECORDS]
    build(tmp_path / "stopped", other, vocabulary=64, segment_tokens=100)
    (tmp_path / "stopped" / layout.MANIFEST).unlink()
    build(tmp_path / "stopped", RECORDS, vocabulary=64, segment_tokens=100)
    assert contents(tmp_path / "stopped") == contents(folder)


def test_an_index_of_nothing_finds_nothing(tmp_path):
    build(tmp_path, [], vocabulary=64)
    index = SpanIndex.open(tmp_path)
    assert index.count(index.encode([1])) == 0
    assert index.longest(index.encode([1, 2])) == 0


@pytest.mark.parametrize("ids", [[64], [-1]])
def test_a_token_outside_of_the_vocabulary_names_its_record(tmp_path, folder, ids):
    with pytest.raises(TokenError, match="Record bad"):
        build(tmp_path / "bad", [RecordTokens("bad", ids)], vocabulary=64)
    with pytest.raises(TokenError, match="The answer"):
        SpanIndex.open(folder).encode(ids)


def test_a_subtracting_index_of_another_index_is_refused(folder, tmp_path):
    build(tmp_path / "other", RECORDS[:3], vocabulary=64)
    SpanIndex.open(tmp_path / "other").subtract(["r1"], tmp_path / "less")
    with pytest.raises(SpansFileError, match="subtracts from"):
        SpanIndex.open(folder).without(SpanIndex.open(tmp_path / "less"))


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build_module.Path, "replace", full)
    with pytest.raises(SpansFileError, match=r"unigrams\.bin|tokens\.bin|starts\.bin|records"):
        build(tmp_path / "full", RECORDS, vocabulary=64)
