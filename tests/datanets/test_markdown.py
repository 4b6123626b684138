"""Markdown of strangers runs nothing on our pages; nor does the text of their records."""

import html.parser
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from datanets.markdown import TAGS, render
from datanets.models import Datanet, Record
from datanets.services import imports, reviews

from .conftest import NOON, SHARED

FOLDER = SHARED / "vectors/xss"


def payloads() -> list[str]:
    lines: list[str] = []
    for path in sorted(FOLDER.glob("*.txt")):
        lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()]


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(output: str) -> None:
    tags = Tags()
    tags.feed(output)
    for tag, attributes in tags.found:
        assert tag in TAGS
        assert set(attributes) <= {"href", "title", "rel", "start"}
        href = re.sub(r"\s", "", attributes.get("href") or "").lower()
        scheme = re.match(r"[a-z][a-z0-9+.\-]*:", href)
        assert scheme is None or scheme.group() in ("http:", "https:", "mailto:")


@pytest.mark.skipif(not FOLDER.exists(), reason="shared vectors are absent")
def test_no_known_payload_survives() -> None:
    lines = payloads()
    assert len(lines) > 500
    for line in lines:
        assert_harmless(render(line))
        assert_harmless(render(f"[click]({line})"))
        assert_harmless(render(f"![x]({line})"))
        assert_harmless(render(f"| a |\n|---|\n| {line} |"))


def test_what_markdown_is_for_is_kept() -> None:
    output = render("# Title\n\n**bold** [link](https://x.test)\n\n- a\n\n|a|b|\n|-|-|\n|1|2|")
    assert "<h3>Title</h3>" in output
    assert "<strong>bold</strong>" in output
    assert 'rel="nofollow noopener ugc"' in output
    assert "<td>1</td>" in output


def test_deep_nesting_costs_no_crash() -> None:
    assert render("> " * 20_000 + "x")
    assert render("[" * 5_000)
    assert render("*" * 20_000)


def test_pages_show_hostile_text_as_text(
    browser: Callable[..., Client], published: Datanet, owner: User, jsonl: Any
) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    Datanet.objects.update(name=bad[:80], summary=bad, description=bad, rules=bad, tags=[bad[:30]])
    imports.import_file(
        datanet=published, path=jsonl([{"question": bad, "answer": bad, bad: bad}]),
        acting_user=owner, at=NOON,
    )  # fmt: skip
    reviews.accept_records(datanet=published, acting_user=owner, at=NOON)
    base = published.get_absolute_url()
    record = Record.objects.get()
    client = browser(owner)
    for url in (base, base + "records/", base + "people/", base + "review/", base + "versions/",
                base + "contribute/", "/datanets/?show=mine", record.get_absolute_url(),
                record.contribution.get_absolute_url()):  # fmt: skip
        page = client.get(url)
        assert page.status_code == 200
        assert "<script>alert" not in page.content.decode()
        assert "<img src=x" not in page.content.decode()
        assert "script-src 'self'" in page["Content-Security-Policy"]
