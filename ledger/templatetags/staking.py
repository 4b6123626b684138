"""Times of stake pools."""

from django import template

register = template.Library()


@register.filter
def days(seconds: int) -> str:
    """604800 -> "7 days"; below two days in hours, below two hours in minutes."""
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = seconds // length
        if count >= 2 or (count == 1 and seconds % length == 0):
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


@register.filter
def of_whole(basis_points: int) -> str:
    """1250 -> "12.5 %"."""
    return f"{basis_points / 100:.2f}".rstrip("0").rstrip(".") + " %"
