"""Sessions as this dialect writes them."""

from __future__ import annotations

from pydantic import BaseModel

from api.platform.schemas.fields import Timestamp
from schema.domain.identity import Principal
from schema.domain.users import UserSession


class SessionOut(BaseModel):
    """A login that holds; `current` marks the one that asks."""

    id: int
    user_id: int
    user_email: str
    ip_address: str | None
    user_agent: str | None
    created_at: Timestamp
    last_active_at: Timestamp
    expires_at: Timestamp
    current: bool

    @classmethod
    def of(cls, session: UserSession, principal: Principal) -> SessionOut:
        """Return it as the caller sees it."""
        current = session.id == principal.session_id
        return cls.model_validate({**session.model_dump(), "current": current})
