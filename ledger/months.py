"""Months as statements and budgets count them: in UTC, from the first instant to the next first."""

from datetime import UTC, date, datetime

from ledger.errors import InvalidMonth


def month_of(at: datetime) -> date:
    """The first day of the month of `at` in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def bounds(month: date) -> tuple[datetime, datetime]:
    """The first instant of the month, and the first one after it."""
    return start_of(month), start_of(next_month(month))


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def parse_month(text: str) -> date:
    """ "2026-11" -> 1 November 2026. Raises InvalidMonth."""
    try:
        found = date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise InvalidMonth("Write the month as year and number, for example 2026-11.") from error
    if len(text) != 7 or found.year > 9998:
        raise InvalidMonth("Write the month as year and number, for example 2026-11.")
    return found
