"""What can go wrong at the market: an error of EC2, a connection that breaks, a control call that cannot be."""

_STATUS = {
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "AuthFailure": 401,
    "UnauthorizedOperation": 403,
    "DryRunOperation": 412,
}


class EC2Error(Exception):
    """An answer of EC2 that is an error: its code and its text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """Return the HTTP status that EC2 sends with this code."""
        return _STATUS.get(self.code, 400)


class ConnectionDroppedError(Exception):
    """The connection breaks before the answer has been sent; the caller cannot know whether the call took effect."""


class ControlError(Exception):
    """A control call that the market cannot carry out; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
