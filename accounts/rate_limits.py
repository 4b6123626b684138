"""How many requests and tokens a key may ask for in a minute.

Counted in Redis by the library `limits`; where Redis does not answer nobody is refused, since the
balance and the key's cap stand in the database.
"""

import logging
import time
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import redis
from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from accounts.models import ApiKey

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Window:
    """One limit as it stands: `quota` in a window, `left` of it, `reset` seconds to the next."""

    name: str
    quota: int
    left: int
    reset: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a request may go on, and what to tell the client of its limits."""

    windows: tuple[Window, ...] = ()
    exceeded: Window | None = None

    @property
    def headers(self) -> dict[str, str]:
        """By draft-ietf-httpapi-ratelimit-headers, and by the names that OpenAI's clients know."""
        if not self.windows:
            return {}
        found = {
            "RateLimit-Policy": ", ".join(
                f'"{one.name}";q={one.quota};w={WINDOW_SECONDS}' for one in self.windows
            ),
            "RateLimit": ", ".join(
                f'"{one.name}";r={one.left};t={one.reset}' for one in self.windows
            ),
        }
        for one in self.windows:
            found[f"x-ratelimit-limit-{one.name}"] = str(one.quota)
            found[f"x-ratelimit-remaining-{one.name}"] = str(one.left)
            found[f"x-ratelimit-reset-{one.name}"] = f"{one.reset}s"
        if self.exceeded is not None:
            found["Retry-After"] = str(max(1, self.exceeded.reset))
        return found


def take_request(key: ApiKey, now: float) -> Allowance:
    """Count one request at `now` (seconds of the epoch) and tell how the limits stand."""
    quotas = {
        "requests": key.requests_per_minute or settings.KEY_REQUESTS_PER_MINUTE,
        "tokens": key.tokens_per_minute or settings.KEY_TOKENS_PER_MINUTE,
    }
    try:
        counted = _count(key.pk)
    except redis.RedisError:
        logger.warning("rate limits are not counted: Redis does not answer", exc_info=True)
        return Allowance()
    windows = tuple(
        Window(
            name,
            quota,
            max(0, quota - counted[name].count),
            min(WINDOW_SECONDS, max(0, round(counted[name].ends - now))),
        )
        for name, quota in quotas.items()
    )
    # A request counts before it is looked at; tokens are those of the requests before it.
    over = {"requests": quotas["requests"] + 1, "tokens": quotas["tokens"]}
    exceeded = [one for one in windows if counted[one.name].count >= over[one.name]]
    return Allowance(windows, exceeded[0] if exceeded else None)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted in a window, and when it ends (seconds of the epoch)."""

    count: int
    ends: float


def _count(key_id: UUID) -> dict[str, _Counted]:
    """Count a request, and look at both windows, in one round trip: somebody waits for it."""
    storage = _limiter().storage
    assert isinstance(storage, RedisStorage)
    names = {
        name: storage.prefixed_key(_item(1).key_for(name, str(key_id)))
        for name in ("requests", "tokens")
    }
    with _client().pipeline(transaction=False) as pipe:
        # As the library's script does it, which a pipeline would first ask Redis about.
        pipe.set(names["requests"], 0, ex=WINDOW_SECONDS, nx=True)
        pipe.incr(names["requests"])
        for one in names.values():
            pipe.get(one)
            pipe.pttl(one)
        _, _, *told = pipe.execute()
    now = time.time()
    return {
        name: _Counted(int(count or 0), now + max(0, left) / 1000)
        for name, count, left in zip(names, told[::2], told[1::2], strict=True)
    }


def count_tokens(key_id: UUID, tokens: int) -> None:
    """Count tokens that were read or written; a request that began is answered whole."""
    try:
        _limiter().hit(_item(settings.KEY_TOKENS_PER_MINUTE), "tokens", str(key_id), cost=tokens)
    except redis.RedisError:
        logger.warning("tokens are not counted: Redis does not answer", exc_info=True)


@cache
def _client() -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=1.0, socket_connect_timeout=1.0
    )
    return client


@cache
def _limiter() -> FixedWindowRateLimiter:
    pool = _client().connection_pool
    return FixedWindowRateLimiter(RedisStorage("redis://", connection_pool=pool))


class _Item(RateLimitItemPerMinute):
    """Keyed by whom it counts alone, so that a changed quota goes on with the same count."""

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return "/".join(("key-limit", *map(str, identifiers)))


def _item(quota: int) -> RateLimitItemPerMinute:
    return _Item(quota)
