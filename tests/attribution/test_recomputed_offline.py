"""With the private part and the index's files, a receipt is computed again without the house."""

import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode

import pytest
from django.conf import settings as django_settings

from attribution.models import Index
from attribution.selectors import bundle_of, private_of
from attribution.translog.__main__ import main

pytestmark = pytest.mark.django_db


@pytest.fixture
def files(indexed, settings, tmp_path):
    """A true receipt, its private part and its index, as a party has downloaded them."""
    receipt = indexed.receipt(answer="The door 3 is a door. The window 4 is a window of the house.")
    folder = tmp_path / "mine"
    shutil.copytree(settings.DATA_DIR / "cache" / "indexes" / Index.objects.get().root, folder)
    (folder / "receipt.json").write_text(json.dumps(bundle_of(receipt)))
    (folder / "private.json").write_text(json.dumps(private_of(receipt, indexed.payer)))
    return folder


@pytest.fixture
def check(files, capsys):
    """The checks that fail, and those that hold."""

    def run(*more):
        arguments = [
            "verify",
            str(files / "receipt.json"),
            "--private",
            str(files / "private.json"),
        ]
        code = main([*arguments, "--index", str(files), "--format", "json", *more])
        report = json.loads(capsys.readouterr().out)
        assert code == (0 if report["holds"] else 1)
        found = {True: set(), False: set(), None: set()}
        for one in report["checks"]:
            found[one["holds"]].add(one["name"])
        return found[False], found[True]

    return run


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


COMPUTED = {"private part", "index", "influences", "records", "certainty", "shares", "credits"}


def test_everything_follows_from_the_files(files, check):
    failed, held = check()
    assert failed == set()
    assert held >= COMPUTED
    (files / "codes.npy").rename(files / "0123456789ab-codes.npy")  # as a browser saves it
    assert check()[0] == set()
    lines = (files / "records.jsonl").read_text().splitlines()
    assert len(lines) == 23
    needs_nothing_but_the_library(files)


AFTER_INDEX = {"influences", "records", "certainty"}


def test_a_bit_of_the_index_another_sketch_and_another_list_are_found(files, check):
    for name in ("sums.npy", "codes.npy", "norms.npy", "vectors.npy", "null.npy", "manifest.json"):
        whole = (files / name).read_bytes()
        flip(files / name, -2 if name == "manifest.json" else -1)
        failed, _ = check()
        assert failed, name
        assert failed <= AFTER_INDEX | {"index"}
        assert "index" in failed or name == "null.npy"
        (files / name).write_bytes(whole[:-1])
        assert check()[0], name
        (files / name).write_bytes(whole)

    def other_sketch(file):
        data = bytearray(b64decode(file["sketch_base64"]))
        data[0] ^= 64
        file["sketch_base64"] = b64encode(bytes(data)).decode()

    private = files / "private.json"
    true = private.read_text()
    edit(private, other_sketch)
    assert check()[0] == {"private part"}
    private.write_text(true)
    edit(private, lambda file: file["private"]["records"].pop())
    assert check()[0] == {"private part"}
    private.write_text(true)
    (files / "sums.npy").unlink()
    assert {"index", "influences"} <= check()[0]
    edit(private, lambda file: file.update(private=None))
    assert check()[0] == {"private part"}


def needs_nothing_but_the_library(files):
    """A stranger has no NumPy and nothing of ours but the folder."""
    house = str(django_settings.BASE_DIR)
    program = (
        "import sys; sys.modules['numpy'] = None; sys.modules['django'] = None\n"
        "from attribution.translog.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["verify", "receipt.json", "--private", "private.json", "--index", "."]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=files,
        env={"PYTHONPATH": house},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "ok   certainty" in done.stdout
