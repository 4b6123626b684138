"""What beat starts for this app."""

SCHEDULE: dict[str, dict[str, object]] = {
    "sweep-leases": {
        "task": "accounts.tasks.sweep_leases",
        "schedule": 5.0,
        "options": {"queue": "default", "expires": 5},
    },
    "forget-old-rows": {"task": "accounts.tasks.forget_old_rows", "schedule": 3600.0},
}
