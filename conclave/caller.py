"""Who is behind what runs just now, and from where: what the audit log names.

The API sets it for each request. Work without a request (workflows, commands) is the system's.
"""

from __future__ import annotations

from contextvars import ContextVar

from schema.domain.base import Shape
from schema.domain.identity import SYSTEM_PRINCIPAL, Principal


class Caller(Shape):
    """A principal and where its request came from."""

    principal: Principal = SYSTEM_PRINCIPAL
    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


_SYSTEM = Caller()
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=_SYSTEM)
