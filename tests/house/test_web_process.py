"""Heavy and dangerous libraries stay out of the processes that have no need of them.

A cold torch import costs seconds and 200 MB; `import web3` on Python 3.11 raises the recursion
limit of the whole process, after which deeply nested JSON kills it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CHAIN_LIBRARIES = {"web3", "eth_account", "py_ecc"}
MODEL_LIBRARIES = {"torch", "transformers", "peft", "captum"}

RESOLVE_EVERY_URL = """
import json, sys
import config.asgi
from django.urls import get_resolver
from django.urls.resolvers import URLResolver

def callbacks(resolver):
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from callbacks(pattern)
        else:
            yield pattern.callback

import config.urls
count = sum(1 for callback in callbacks(get_resolver()) if callable(callback))
print(json.dumps({"count": count, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""

LOAD_EVERY_TASK = """
import json, sys
import django
django.setup()
from config.celery import app
app.loader.import_default_modules()
app.finalize()
count = sum(1 for name in app.tasks if not name.startswith("celery."))
print(json.dumps({"count": count, "modules": sorted({name.split(".")[0] for name in sys.modules}),
                  "limit": sys.getrecursionlimit()}))
"""


def ask(script: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_web_process_resolves_every_url_without_models_or_chain() -> None:
    answer = ask(RESOLVE_EVERY_URL)
    assert answer["count"] > 50
    assert (CHAIN_LIBRARIES | MODEL_LIBRARIES) & set(answer["modules"]) == set()


def test_the_web_process_imports_no_celery_task() -> None:
    script = RESOLVE_EVERY_URL.replace('name.split(".")[0]', "name")
    modules = ask(script)["modules"]
    rooms = (
        "accounts",
        "ledger",
        "governance",
        "datanets",
        "modelfactory",
        "attribution",
        "serving",
    )
    assert [name for name in modules if name in {f"{room}.tasks" for room in rooms}] == []
    assert "config.celery" not in modules


def test_a_worker_that_has_loaded_every_task_has_not_loaded_web3() -> None:
    answer = ask(LOAD_EVERY_TASK)
    assert answer["count"] > 5
    assert CHAIN_LIBRARIES & set(answer["modules"]) == set()
    assert answer["limit"] < 10_000


@pytest.mark.parametrize("module", ["config.settings", "accounts.models", "manage"])
def test_a_short_command_loads_no_model_library(module: str) -> None:
    script = (
        "import json, sys, django\n"
        "django.setup()\n"
        f"import {module}\n"
        'print(json.dumps({"modules": [name.split(".")[0] for name in sys.modules]}))'
    )
    assert MODEL_LIBRARIES & set(ask(script)["modules"]) == set()
