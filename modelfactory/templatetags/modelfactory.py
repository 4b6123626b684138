"""Template helpers of runs and models: sizes and times as people say them."""

import re
from typing import Any

from django import template
from django.utils.safestring import SafeString

from datanets import markdown

register = template.Library()
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


@register.filter
def duration(seconds: float | None) -> str:
    """75 -> "1 min 15 s"."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@register.filter
def short(number: float | None) -> str:
    """4000000 -> "4.0 M"."""
    if number is None:
        return "–"
    for size, unit in UNITS:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


@register.filter
def setting(value: Any) -> str:
    """A recipe's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


@register.filter
def card(text: str) -> SafeString:
    """A model card without its header block, as safe HTML."""
    return markdown.render(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL))


@register.filter
def versus(before: float, after: float) -> str:
    """Change from before to after, with its sign, in percent."""
    return f"{100 * (after - before) / before:+.1f} %" if before else "–"
