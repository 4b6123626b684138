"""What beat starts for this app."""

SCHEDULE: dict[str, dict[str, object]] = {
    "expire-uploads": {
        "task": "datanets.tasks.expire_uploads",
        "schedule": 900.0,
        "options": {"queue": "ingest", "expires": 900},
    },
    # Records of before, and what a worker that died left.
    "compare-records": {
        "task": "datanets.tasks.compare_records",
        "schedule": 300.0,
        "options": {"queue": "ingest", "expires": 300},
    },
    "settle-stakes": {
        "task": "datanets.tasks.settle_stakes",
        "schedule": 30.0,
        "options": {"queue": "default", "expires": 30},
    },
}
