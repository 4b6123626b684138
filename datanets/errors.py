"""Refusals that a person sees: a stable code, and a sentence with what to do."""


class DatanetError(Exception):
    """A service refuses. code: for programs; message: for the person; status: of the API."""

    def __init__(self, code: str, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
