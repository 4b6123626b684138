"""The local chain stays the same chain however often it is stopped and started."""

import json
import signal
import subprocess
import time
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


def test_a_node_that_is_started_five_times_keeps_its_genesis(tmp_path):
    port = free_port()
    command = chain.command(tmp_path, port=port)
    genesis, numbers = set(), []
    for _ in range(5):
        node = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[3])
        try:
            local.wait_until_up(port)
            client = Web3(Web3.HTTPProvider(chain.url(port)))
            deadline = time.monotonic() + 20
            while client.eth.block_number < len(numbers) + 1 and time.monotonic() < deadline:
                time.sleep(0.1)
            genesis.add(client.eth.get_block(0)["hash"])
            assert client.eth.get_block(1)["parentHash"] in genesis
            numbers.append(client.eth.block_number)
        finally:
            node.send_signal(signal.SIGTERM)
            assert node.wait(15) is not None
    assert len(genesis) == 1
    assert numbers == sorted(numbers)
