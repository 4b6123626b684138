"""How many requests and tokens a key may ask for in a minute.

Counted in Redis, in a window that begins with the first that is counted in it. Where Redis does not
answer nobody is refused, since the balance and the key's cap stand in the database.
"""

import logging
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import redis
from django.conf import settings
from redis.client import Pipeline

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


def take_request(key: ApiKey) -> Allowance:
    """Count one request and tell how the limits stand."""
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
        Window(name, quota, max(0, quota - counted[name].count), counted[name].reset)
        for name, quota in quotas.items()
    )
    # A request counts before it is looked at; tokens are those of the requests before it.
    over = {"requests": quotas["requests"] + 1, "tokens": quotas["tokens"]}
    exceeded = [one for one in windows if counted[one.name].count >= over[one.name]]
    return Allowance(windows, exceeded[0] if exceeded else None)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted in a window, and the seconds until it ends."""

    count: int
    reset: int


def _count(key_id: UUID) -> dict[str, _Counted]:
    """Count a request, and look at both windows, in one round trip: somebody waits for it."""
    names = ("requests", "tokens")
    with _client().pipeline() as pipe:
        _add(pipe, key_id, "requests", 1)
        for name in names:
            pipe.get(_place(key_id, name))
            pipe.pttl(_place(key_id, name))
        _, _, *told = pipe.execute()
    return {
        name: _Counted(int(count or 0), round(max(0, left) / 1000))
        for name, count, left in zip(names, told[::2], told[1::2], strict=True)
    }


def count_tokens(key_id: UUID, tokens: int) -> None:
    """Count tokens that were read or written; a request that began is answered whole."""
    try:
        with _client().pipeline() as pipe:
            _add(pipe, key_id, "tokens", tokens)
            pipe.execute()
    except redis.RedisError:
        logger.warning("tokens are not counted: Redis does not answer", exc_info=True)


def _add(pipe: Pipeline, key_id: UUID, name: str, amount: int) -> None:
    """Begin a window where there is none, and count in it. The pipeline is a transaction, in which
    the clock stands: a window that ended between the two would be counted in for ever."""
    pipe.set(_place(key_id, name), 0, ex=WINDOW_SECONDS, nx=True)
    pipe.incrby(_place(key_id, name), amount)


def _place(key_id: UUID, name: str) -> str:
    return f"key-limit/{name}/{key_id}"


@cache
def _client() -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=1.0, socket_connect_timeout=1.0
    )
    return client
