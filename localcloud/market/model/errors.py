"""The market's errors: of EC2, of the connection, and of control calls."""

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
    """An error answer of EC2: its code and its text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """Return the HTTP status that EC2 sends with this code."""
        return _STATUS.get(self.code, 400)


class ConnectionDroppedError(Exception):
    """The connection breaks before the answer is sent. The caller cannot know whether the call took effect."""


class ControlError(Exception):
    """A control call that the market cannot carry out. ``status`` is the HTTP status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
