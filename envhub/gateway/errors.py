"""ApiError: an HTTP answer that is no completion, before a dialect puts it into its own words."""

import math
from collections.abc import Mapping

from envhub.errors import (
    Boundary,
    EnvhubError,
    Fault,
    RateExceeded,
    Truncated,
    UnknownCaller,
    UsageError,
    WrongRole,
)

RETRY_AFTER_S = 1.0


class ApiError(EnvhubError):
    """Status, machine-readable code and message; `param` names the field at fault, if one is."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str = "",
        retryable: bool = False,
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        super().__init__(status, code, message, param, retryable, retry_after_s)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retryable = retryable

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> Mapping[str, str]:
        """Says to SDKs whether to try again: by themselves they would repeat every 409 and 5xx."""
        return {"retry-after": str(math.ceil(self.retry_after_s))} if self.retryable else {"x-should-retry": "false"}


def api_error(error: EnvhubError) -> ApiError:
    """How a failure of the platform is told to a program outside."""
    match error:
        case ApiError():
            return error
        case Truncated():
            return _limit_met(error.reason)
        case Fault(__cause__=UsageError()):
            return ApiError(400, "invalid_request", error.message)
        case Fault():
            return ApiError(_fault_status(error), f"{error.boundary}_fault", error.message, retryable=error.retryable)
        case UnknownCaller():
            return ApiError(401, "invalid_token", str(error))
        case WrongRole():
            return ApiError(403, "wrong_role", str(error))
        case RateExceeded():
            return ApiError(429, "rate_limit_exceeded", str(error), retryable=True, retry_after_s=error.retry_after_s)
        case UsageError():
            return ApiError(400, "invalid_request", str(error))
        case _:
            return ApiError(500, "internal_error", str(error))


def _limit_met(reason: str) -> ApiError:
    if reason == "context":
        message = "the messages exceed the model's maximum context length; shorten them"
        return ApiError(400, "context_length_exceeded", message, "messages")
    return ApiError(
        400, f"{reason}_exceeded", f"the rollout's limit '{reason}' is met; finish with the answer you have"
    )


def _fault_status(fault: Fault) -> int:
    if fault.retryable:
        return 503
    return 502 if fault.boundary is Boundary.ENGINE else 500
