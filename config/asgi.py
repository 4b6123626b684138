"""ASGI entry point of the web process."""

import os
import sys
from typing import Any

import django
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# The event loop takes turns with the threads of other requests: each keeps it for 1 ms, not for 5.
sys.setswitchinterval(0.001)

django.setup(set_prefix=False)


class Handler(ASGIHandler):
    """Django's, with the API's short way before all middlewares.

    Two of those (whitenoise's, allauth's of sessions) know no event loop, so Django runs them and
    all before them in a thread, which a request would hold until its answer has begun.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        from config.middleware import ShortWayForApi

        super().load_middleware(is_async)
        pages: Any = self._middleware_chain  # type: ignore[has-type]
        self._middleware_chain = convert_exception_to_response(ShortWayForApi(pages))


application = Handler()
