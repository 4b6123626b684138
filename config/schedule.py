"""What beat starts for the whole house."""

from config.books import queue

SCHEDULE: dict[str, dict[str, object]] = {
    # Looks whether a comparison is due, which costs one row; the comparing itself is nightly.
    "reconcile-when-due": {
        "task": "config.tasks.reconcile_when_due",
        "schedule": 120.0,
        "options": {"queue": queue(), "expires": 120},
    },
}
