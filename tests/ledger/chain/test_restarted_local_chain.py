"""The local chain stays the same chain however often it is stopped and started."""

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from web3 import Web3

from config.embedded import chain
from ledger.chain import local
from ledger.chain.local_state import keep_first_genesis
from tests.chain_fixtures import free_port


def block(number, timestamp, transactions=()):
    header = {"parentHash": "0x0", "number": hex(number), "timestamp": hex(timestamp)}
    return {"header": header, "transactions": list(transactions), "ommers": [], "withdrawals": None}


def written(path, blocks):
    state = {"block": {"number": "0x2"}, "accounts": {}, "blocks": blocks, "transactions": []}
    path.write_text(json.dumps(state, separators=(",", ":")))
    return path


LATER = [block(0, 200), block(0, 300)]
OTHERS = [block(1, 101, [{"input": "0x0"}]), block(10, 110), block(16, 116)]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("ends", [True, False])
def test_the_oldest_genesis_stays_wherever_it_stands(tmp_path, place, ends):
    genesis = [*LATER]
    genesis.insert(place, block(0, 100))
    blocks = [*OTHERS, *genesis] if ends else [*genesis, *OTHERS]
    path = written(tmp_path / "state.json", blocks)
    assert keep_first_genesis(path) == 2
    left = json.loads(path.read_text())
    assert left["blocks"] == [block(0, 100) if one in LATER else one for one in blocks]
    assert left["block"] == {"number": "0x2"}
    assert keep_first_genesis(path) == 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"blocks":[', b"\x00\xff"])
def test_what_is_no_state_stays_as_it_is(tmp_path, data):
    path = tmp_path / "state.json"
    assert keep_first_genesis(path) == 0
    path.write_bytes(data)
    assert keep_first_genesis(path) == 0
    assert path.read_bytes() == data


@contextmanager
def node_of(command, port, *, end=signal.SIGTERM):
    node = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[3])
    try:
        local.wait_until_up(port)
        yield Web3(Web3.HTTPProvider(chain.url(port)))
    finally:
        node.send_signal(end)
        node.wait(15)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def test_a_node_that_is_started_five_times_keeps_its_genesis(tmp_path):
    port = free_port()
    command = chain.command(tmp_path, port=port)
    genesis, numbers = set(), []
    for start in range(1, 6):
        with node_of(command, port) as client:
            wait_for(lambda client=client, start=start: client.eth.block_number >= start)
            genesis.add(client.eth.get_block(0)["hash"])
            assert client.eth.get_block(1)["parentHash"] in genesis
            numbers.append(client.eth.block_number)
    assert len(genesis) == 1
    assert numbers == sorted(numbers)


def test_what_was_final_outlives_a_node_that_is_killed(tmp_path):
    port = free_port()
    command = chain.command(tmp_path, port=port)
    state = tmp_path / "chain" / "anvil.json"
    with node_of(command, port, end=signal.SIGKILL) as client:
        wait_for(lambda: client.eth.block_number >= 12)
        # Just before it is written again, where the most is lost.
        written_at = state.stat().st_mtime
        wait_for(lambda: state.stat().st_mtime > written_at)
        time.sleep(local.STATE_INTERVAL_SECONDS - 1)
        final, latest = client.eth.get_block("finalized"), client.eth.block_number
        assert final["number"] > 0
    with node_of(command, port) as client:
        assert client.eth.block_number < latest
        assert client.eth.get_block(final["number"])["hash"] == final["hash"]
