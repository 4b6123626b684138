"""An answer whose citations, [1] and so on, lead to the records that were put into its prompt."""

from __future__ import annotations

import re

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from accounts import pages
from serving.models import Completion

CITATION = re.compile(r"\[([1-9][0-9]?)\]")


def cited(completion: Completion) -> SafeString:
    """The answer as HTML; a number that no record has stays as it is."""
    records = (completion.retrieval or {}).get("records", [])

    def link(found: re.Match[str]) -> str:
        place = int(found[1]) - 1
        address = pages.url("record", records[place]["record"]) if place < len(records) else ""
        return (
            format_html('<a data-citation href="{}">{}</a>', address, found[0])
            if address
            else found[0]
        )

    # Brackets and digits are what escaping leaves alone, and it made the rest harmless.
    return mark_safe(CITATION.sub(link, escape(completion.answer)))
