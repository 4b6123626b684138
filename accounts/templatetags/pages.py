from uuid import UUID

from django import template

from accounts import pages

register = template.Library()


@register.simple_tag
def page_url(kind: str, identifier: UUID | str | None) -> str:
    """The URL of a thing's page, or "" where no room shows that kind."""
    return pages.url(kind, identifier)
