"""What beat starts for this app."""

from django.conf import settings

SCHEDULE: dict[str, dict[str, object]] = {
    "forget-unfetched-vectors": {"task": "serving.tasks.forget_unfetched", "schedule": 3600.0},
    "end-pins": {
        "task": "serving.tasks.end_pins",
        "schedule": 30.0,
        "options": {"queue": "default", "expires": 30},
    },
}
if settings.EXTERNAL_ENGINES:
    # Without a worker of that queue nobody would take them.
    SCHEDULE["check-replicas"] = {
        "task": "serving.tasks.check_replicas",
        "schedule": 10.0,
        "options": {"queue": "external", "expires": 10},
    }
