"""What can be wrong with a change of the security settings."""

from __future__ import annotations

from conclave.errors import Conflict


class WouldShutOutCaller(Conflict):
    """The new IP rules would refuse whoever sets them."""

    code = "would_shut_out_caller"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"The rules would shut out the caller ({address[:64]}): force=true sets them anyway.",
            address=address[:64],
        )
