"""What beat starts for this app."""

from django.conf import settings

SCHEDULE: dict[str, dict[str, object]] = {
    "fund-stake-pools": {
        "task": "governance.tasks.fund_stake_pools",
        "schedule": float(settings.STAKERS_FUND_SECONDS),
        "options": {"queue": "default", "expires": settings.STAKERS_FUND_SECONDS},
    },
}
