"""Refusals that a person sees: a stable code, what is wrong, and the next step."""


class ModelFactoryError(Exception):
    """code: for programs; message: for the person; url: where the next step is."""

    def __init__(self, code: str, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.url = url


class RunError(ModelFactoryError):
    """A run cannot be started as it stands."""


class ModelError(ModelFactoryError):
    """A model cannot be published, priced or taken down like this."""


class BaseModelError(ModelFactoryError):
    """A base model cannot be registered."""
