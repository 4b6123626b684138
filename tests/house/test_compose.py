"""compose.yaml is a valid Compose file that runs the same processes as `make demo`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from config.embedded import workers
from ledger.chain.local import anvil_command

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "compose.yaml"
SCHEMA = Path(__file__).with_name("compose-spec.json")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(FILE.read_text())


def queues_of(command: tuple[str, ...] | list[str], bases: str = "starter") -> str | None:
    """The queues of a worker, asked of the shell where the command is a script for it."""
    command = list(command)
    if command[0] == "sh":
        shown = command[-1].replace("$$", "$").replace("exec celery", "printf '%s\\n'")
        environment = {**os.environ, "GENERATE_BASES": bases}
        words = subprocess.run([*command[:-1], shown], env=environment, capture_output=True)
        command = words.stdout.decode().splitlines()
    return command[command.index("--queues") + 1] if "--queues" in command else None


def test_it_fits_the_compose_specification(compose: dict) -> None:
    validator = jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(compose)] == []


def test_the_specification_would_refuse_a_misspelt_key(compose: dict) -> None:
    broken = json.loads(json.dumps(compose))
    broken["services"]["web"]["comand"] = ["gunicorn"]
    validator = jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))
    assert list(validator.iter_errors(broken)) != []


def test_it_runs_every_process_of_the_demo(compose: dict) -> None:
    demo = {
        service.name
        for service in workers.services(
            host="127.0.0.1", port=8000, environment={"CHAIN_RPC_URL": "http://127.0.0.1:8545"}
        )
    }
    assert demo <= set(compose["services"])


def test_its_workers_take_from_the_queues_of_the_demo(compose: dict) -> None:
    for service in workers.services(
        host="127.0.0.1", port=8000, environment={"CHAIN_RPC_URL": "http://127.0.0.1:8545"}
    ):
        if queues_of(list(service.command)):
            command = compose["services"][service.name]["command"]
            assert queues_of(command) == queues_of(list(service.command)), service.name


def test_servers_elsewhere_are_asked_where_that_is_switched_on(compose: dict) -> None:
    switched_on = {
        service.name: queues_of(list(service.command))
        for service in workers.services(
            host="127.0.0.1", port=8000, environment={"EXTERNAL_ENGINES": "1"}
        )
    }
    assert switched_on["external"] == "external"
    assert queues_of(compose["services"]["external"]["command"]) == "external"


def test_the_gpu_profile_has_the_workers_that_compute(compose: dict) -> None:
    on_gpu = {
        queues_of(service["command"])
        for service in compose["services"].values()
        if "gpu" in service.get("profiles", [])
    }
    assert on_gpu == {"train", "attribute", "generate.starter"}


def test_a_machine_may_serve_several_bases(compose: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATE_BASES", "starter, qwen2.5-0.5b")
    command = compose["services"]["generate"]["command"]
    assert queues_of(command, "starter, qwen2.5-0.5b") == workers.generate_queues()


def test_the_sample_asks_the_web_process_where_it_listens(compose: dict) -> None:
    sample = compose["services"]["sample"]
    assert sample["network_mode"] == "service:web"
    assert sample["depends_on"]["web"]["condition"] == "service_healthy"
    assert "/health/" in compose["services"]["web"]["healthcheck"]["test"][-1]
    assert sample["environment"]["SITE_URL"] == "http://localhost:8000"
    assert (
        sample["environment"]["DATABASE_URL"] == compose["x-product"]["environment"]["DATABASE_URL"]
    )


def test_only_the_worker_of_the_chain_gets_its_key(compose: dict) -> None:
    holders = {
        name
        for name, service in compose["services"].items()
        if {"CHAIN_KEYSTORE", "CHAIN_KEYSTORE_PASSWORD", "CHAIN_KMS", "CHAIN_KMS_TOKEN"}
        & set(service.get("environment", {}))
    }
    assert holders == {"chain"}


def test_the_worker_of_the_chain_gets_every_way_to_a_key_and_the_caps(compose: dict) -> None:
    asked = {"CHAIN_KEYSTORE", "CHAIN_KEYSTORE_PASSWORD", "CHAIN_KMS", "CHAIN_KMS_TOKEN"}
    asked |= {"CHAIN_CAP_TRANSACTION_WEI", "CHAIN_CAP_DAY_WEI"}
    asked |= {"CHAIN_FEE_CAP_WEI", "CHAIN_LOW_FUNDS_WEI", "CHAIN_STUCK_SECONDS"}
    asked |= {"CHAIN_STALE_SECONDS", "CHAIN_CONFIRMATIONS"}
    assert asked <= set(compose["services"]["chain"]["environment"])


def test_what_a_server_sets_reaches_every_container(compose: dict) -> None:
    asked = {"ALLOWED_HOSTS", "BLOB_BUCKET", "BLOB_ENDPOINT_URL", "CHAIN_PUBLIC_RPC_URL"}
    asked |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for name, service in compose["services"].items():
        if service.get("image") == "openledger:local":
            assert asked <= set(service["environment"]), name


def test_a_browser_s_wallet_reaches_the_local_chain_and_no_stranger_does(compose: dict) -> None:
    (port,) = compose["services"]["anvil"]["ports"]
    assert port == "127.0.0.1:${ANVIL_PORT:-8545}:8545"
    address = compose["services"]["web"]["environment"]["CHAIN_PUBLIC_RPC_URL"]
    assert address.endswith(":-http://localhost:${ANVIL_PORT:-8545}}")


def test_nothing_starts_before_the_schema_and_the_contracts(compose: dict) -> None:
    for name in ("web", "relay", "beat", "worker", "chain", "generate", "attribute", "train"):
        waits = compose["services"][name]["depends_on"]
        assert waits["prepare"]["condition"] == "service_completed_successfully", name


def test_its_chain_runs_like_the_demo_s(compose: dict) -> None:
    ours = anvil_command(Path("anvil"), 8545, Path("/state/anvil.json"), 1)[1:]
    ours.remove("--quiet")
    own = dict(zip(ours[::2], ours[1::2], strict=True))
    del own["--port"]
    own["--host"] = "0.0.0.0"
    assert {f"{key}={value}" for key, value in own.items()} | {"--quiet"} == set(
        compose["services"]["anvil"]["command"]
    )


def test_its_chain_is_mended_before_it_starts(compose: dict, tmp_path: Path) -> None:
    mends, node = compose["services"]["anvil-state"], compose["services"]["anvil"]
    assert node["depends_on"]["anvil-state"]["condition"] == "service_completed_successfully"
    assert mends["volumes"] == node["volumes"]
    assert f"--state={mends['command'][-1]}" in node["command"]
    assert not mends["depends_on"]  # what all others wait for waits for the node
    state = tmp_path / "anvil.json"
    blocks = [
        {"header": {"number": "0x0", "timestamp": hex(at)}, "transactions": []} for at in (9, 5)
    ]
    state.write_text(json.dumps({"blocks": blocks}, separators=(",", ":")))
    subprocess.run(
        [sys.executable, *mends["command"][1:-1], str(state)], check=True, cwd=REPOSITORY
    )
    assert json.loads(state.read_text()) == {"blocks": [blocks[1], blocks[1]]}


def test_docker_itself_accepts_it() -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker on this machine")
    known = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("docker has no compose plugin here")
    done = subprocess.run(
        [docker, "compose", "--profile", "*", "--file", str(FILE), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
