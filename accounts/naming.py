"""Unique names that the product makes up: handles, slugs."""

import secrets
import string
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from django.db import IntegrityError, transaction

ALPHABET = string.ascii_lowercase + string.digits
TRIES = 100

T = TypeVar("T")


class NoFreeName(Exception):
    """Every name that was tried is taken."""


def make_with_free_name(
    names: Iterable[str], *, is_taken: Callable[[str], bool], make: Callable[[str], T]
) -> T:
    """Call `make` with the first name that is free, and with the next one where a race is lost.

    `make` writes the row and so meets the unique constraint; errors of other constraints pass
    through. Raises NoFreeName after all of `names`.
    """
    for name in names:
        if is_taken(name):
            continue
        try:
            with transaction.atomic():
                return make(name)
        except IntegrityError:
            if not is_taken(name):
                raise
    raise NoFreeName


def numbered(stem: str) -> Iterator[str]:
    """`stem`, `stem-2`, `stem-3` … without end."""
    yield stem
    number = 1
    while True:
        number += 1
        yield f"{stem}-{number}"


def random_names(stem: str) -> Iterator[str]:
    """TRIES times `stem-` and eight letters or digits, which tell nothing about the person."""
    for _ in range(TRIES):
        yield f"{stem}-{''.join(secrets.choice(ALPHABET) for _ in range(8))}"
