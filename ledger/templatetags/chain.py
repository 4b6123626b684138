"""Hashes and addresses for people: cut short, copied whole, linked here and to an explorer."""

from django import template
from django.conf import settings
from django.urls import NoReverseMatch, reverse

register = template.Library()

# The kind of a hash: what it is called, our own page of it, its folder at an external explorer.
KINDS = {
    "transaction": ("transaction hash", "ledger:transaction", "tx"),
    "block": ("block hash", "ledger:block", "block"),
    "address": ("address", "ledger:address", "address"),
    "root": ("root", "", ""),
    "hash": ("hash", "", ""),
    "id": ("id", "", ""),
}
SHORT = 20


@register.inclusion_tag("components/hash.html")
def hash_chip(value: object, kind: str = "hash", link: bool = True) -> dict[str, object]:
    """`{% hash_chip intent.tx_hash "transaction" %}`; `link=False` on the thing's own page."""
    text = "" if value is None else str(value)
    name, page, folder = KINDS[kind]
    base = settings.CHAIN_EXPLORER_URL.rstrip("/")
    return {
        "value": text,
        "short": short_hash(text),
        "name": name,
        "url": _page(page, text) if link and page and text else "",
        "external": f"{base}/{folder}/{text}" if base and folder and text else "",
    }


@register.filter
def short_hash(text: str) -> str:
    """0x1234567890…abcdef; what is short stays whole."""
    text = str(text)
    if len(text) <= SHORT:
        return text
    return f"{text[: 10 if text.startswith('0x') else 8]}…{text[-6:]}"


def _page(name: str, value: str) -> str:
    try:
        return reverse(name, args=[value])
    except NoReverseMatch:
        return ""
