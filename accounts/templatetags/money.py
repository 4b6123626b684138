"""Wei for people: OPEN with as many digits as are needed to be exact, or a short form."""

from django import template

register = template.Library()
WEI_PER_OPEN = 10**18


@register.filter
def open_amount(wei: int | None) -> str:
    """Format wei as OPEN, exactly: 1500000000000000000 -> "1.5"."""
    if wei is None:
        return ""
    sign = "-" if wei < 0 else ""
    whole, part = divmod(abs(int(wei)), WEI_PER_OPEN)
    digits = f"{part:018d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{digits}" if digits else "")


@register.filter
def open_short(wei: int | None) -> str:
    """Format wei as OPEN to six significant digits, for headings; the exact value is a title."""
    if wei is None:
        return ""
    exact = open_amount(wei)
    if "." not in exact:
        return exact
    whole, part = exact.split(".")
    if whole.lstrip("-") != "0":
        return f"{whole}.{part[:4]}".rstrip("0").rstrip(".")
    zeros = len(part) - len(part.lstrip("0"))
    return f"{whole}.{part[: zeros + 4]}"
