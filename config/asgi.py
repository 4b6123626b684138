"""ASGI entry point of the web process."""

import os
import sys

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# The event loop takes turns with the threads of other requests: each keeps it for 1 ms, not for 5.
sys.setswitchinterval(0.001)

application = get_asgi_application()
