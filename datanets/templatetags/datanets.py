"""Template helpers of the Datanet pages."""

from typing import Any

from django import template
from django.utils.safestring import SafeString

from datanets import markdown as rendering
from governance import words as governed

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    return rendering.render(text)


@register.filter
def lookup(values: dict[str, Any], key: str) -> Any:
    """The value of a key that is only known in the template."""
    return values.get(key, "")


@register.filter
def percent_of(part: int, whole: int) -> str:
    """Part of whole as a CSS percentage."""
    return f"{100 * part / whole:.2f}%" if whole else "0%"


@register.filter
def percent(basis_points: int) -> str:
    """1250 -> "12.5 %"."""
    return governed.percent(basis_points)


@register.filter
def period(seconds: int) -> str:
    """604800 -> "7 days"."""
    return governed.period(seconds)


@register.filter
def megabytes(count: int) -> str:
    """Bytes in the decimal units in which the limits are set."""
    return f"{count / 1e3:,.0f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"
