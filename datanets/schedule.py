"""What beat starts for this app."""

SCHEDULE: dict[str, dict[str, object]] = {
    "expire-uploads": {
        "task": "datanets.tasks.expire_uploads",
        "schedule": 900.0,
        "options": {"queue": "ingest", "expires": 900},
    },
    "settle-stakes": {
        "task": "datanets.tasks.settle_stakes",
        "schedule": 30.0,
        "options": {"queue": "default", "expires": 30},
    },
}
