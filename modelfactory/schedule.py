"""What beat starts for this app."""

SCHEDULE: dict[str, dict[str, object]] = {
    "nudge-queued-runs": {"task": "modelfactory.tasks.nudge_queued", "schedule": 60.0},
}
