"""What beat starts for this app."""

from django.conf import settings

SCHEDULE: dict[str, dict[str, object]] = {
    "release-expired-holds": {
        "task": "ledger.tasks.release_expired_holds",
        "schedule": 15.0,
        "options": {"queue": "default", "expires": 15},
    },
    "refresh-budgets": {
        "task": "ledger.tasks.refresh_budgets",
        "schedule": 60.0,
        "options": {"queue": "default", "expires": 60},
    },
    "run-top-ups": {
        "task": "ledger.tasks.run_top_ups",
        "schedule": 15.0,
        "options": {"queue": "default", "expires": 15},
    },
    "settle-receivables": {
        "task": "ledger.tasks.settle_receivables",
        "schedule": 30.0,
        "options": {"queue": "default", "expires": 30},
    },
    "publish-distribution": {
        "task": "ledger.tasks.publish_distribution",
        "schedule": float(settings.DISTRIBUTION_SECONDS),
        "options": {"queue": "default", "expires": settings.DISTRIBUTION_SECONDS},
    },
    # Finds what a chain that was down, or not deployed yet, left behind.
    "advance-distributions": {
        "task": "ledger.tasks.advance_distributions",
        "schedule": 30.0,
        "options": {"queue": "default", "expires": 30},
    },
    "advance-withdrawals": {
        "task": "ledger.tasks.advance_withdrawals",
        "schedule": float(settings.WITHDRAWAL_SECONDS),
        "options": {"queue": "default", "expires": settings.WITHDRAWAL_SECONDS},
    },
    "execute-due-pool-slashes": {
        "task": "ledger.tasks.execute_due_pool_slashes",
        "schedule": 60.0,
        "options": {"queue": "default", "expires": 60},
    },
    "send-intents": {
        "task": "ledger.tasks.send_intents",
        "schedule": 1.0,
        "options": {"queue": "chain", "expires": 1},
    },
    "index-chain": {
        "task": "ledger.tasks.index_chain",
        "schedule": 1.0,
        "options": {"queue": "chain", "expires": 1},
    },
}
