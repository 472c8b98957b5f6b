"""What can go wrong between a terminal and the server it speaks to."""

from __future__ import annotations

from conclave.errors import BadRequest, ConclaveError, Unavailable


class AddressRefused(BadRequest):
    """The server's address cannot be used."""

    code = "address_refused"


class TokenMissing(ConclaveError):
    """There is no token for this server."""

    code = "token_missing"
    status = 401


class ServerRefused(ConclaveError):
    """The server said no; `answered` is its HTTP status, or the code a socket closed with."""

    code = "server_refused"

    def __init__(self, message: str, answered: int) -> None:
        super().__init__(message)
        self.answered = answered


class ServerUnreachable(Unavailable):
    """Nobody answers there, or not as this product does."""

    code = "server_unreachable"
