"""Celery application of the workers, the relay and beat. The web process never imports it."""

import os
from importlib import import_module
from importlib.util import find_spec

import django
from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Signal handlers and schedules below know models; the relay has set Django up already.
django.setup()

app = Celery("openledger")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

ROOMS = (
    "config", "accounts", "ledger", "governance", "datanets", "modelfactory", "attribution",
    "serving",
)  # fmt: skip


def beat_schedule() -> dict[str, dict[str, object]]:
    """Merge the `SCHEDULE` of every app's schedule.py; entry names carry the app's name."""
    schedule: dict[str, dict[str, object]] = {}
    for room in ROOMS:
        if find_spec(f"{room}.schedule") is None:
            continue
        for name, entry in import_module(f"{room}.schedule").SCHEDULE.items():
            schedule[f"{room}.{name}"] = entry
    return schedule


app.conf.beat_schedule = beat_schedule()
app.conf.beat_schedule_filename = str(settings.DATA_DIR / "celerybeat-schedule")
import_module("config.heartbeats")
import_module("config.key_guard")
import_module("config.outbox_ends")
