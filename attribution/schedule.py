"""What beat starts for this app."""

SCHEDULE: dict[str, dict[str, object]] = {
    # Receipts wake the sequencer themselves; this is for a wake-up call that the broker lost.
    "sequence-log": {
        "task": "attribution.tasks.sequence_log",
        "schedule": 10.0,
        "options": {"queue": "attribute", "expires": 10},
    },
    "add-up-credits": {
        "task": "attribution.tasks.add_up_credits",
        "schedule": 300.0,
        "options": {"queue": "default", "expires": 300},
    },
    # Answers of several models, of which one's index failed; a look, where there are none.
    "release-blends": {
        "task": "attribution.tasks.release_blends",
        "schedule": 600.0,
        "options": {"queue": "default", "expires": 600},
    },
    # What a build leaves goes with it; this is for those that were killed.
    "tidy-builds": {
        "task": "attribution.tasks.tidy_builds",
        "schedule": 3600.0,
        "options": {"queue": "attribute", "expires": 3600},
    },
    # Each index once a week; one that is not due costs a look.
    "audit-next-index": {
        "task": "attribution.tasks.audit_next_index",
        "schedule": 1800.0,
        "options": {"queue": "attribute", "expires": 1800},
    },
}
