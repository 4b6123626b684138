"""What serving refuses, each with a sentence for people and the words of the OpenAI API."""


class Refusal(Exception):
    """Base of all refusals: nothing was written and nothing is charged.

    `status` is the HTTP status, `kind` and `code` the error's type and code in OpenAI's shape,
    `parameter` the field of the request that is to blame.
    """

    status = 400
    kind = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter


class InvalidRequest(Refusal):
    """The body is not what the API takes."""


class UnknownModel(Refusal):
    status = 404
    code = "model_not_found"


class PromptTooLong(Refusal):
    code = "context_length_exceeded"


class UnknownKey(Refusal):
    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class NoBalance(Refusal):
    status = 402
    kind = "insufficient_quota"
    code = "insufficient_funds"


class KeyCapReached(Refusal):
    """The key's own cap for the month, whatever the balance."""

    status = 402
    kind = "insufficient_quota"
    code = "key_cap_reached"


class ScopeMissing(Refusal):
    status = 403
    kind = "permission_error"
    code = "scope_missing"


class NotSpendable(Refusal):
    """The ledger keeps the payer from spending, for a reason of its own: its code says which."""

    status = 402
    kind = "insufficient_quota"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TooManyRequests(Refusal):
    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class NoWorker(Refusal):
    """No live worker serves the base."""

    status = 503
    kind = "server_error"
    code = "no_worker"


class NotDeployable(Refusal):
    """The deployment cannot be made or changed, and why."""


class NotPinnable(Refusal):
    """The adapter is not pinned now, and why."""


class BadAddress(Refusal):
    """A replica's address that the house does not call, and why."""


class ReplicaRefused(Refusal):
    """The replica cannot be registered or changed, and why."""
