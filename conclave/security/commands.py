"""What can be asked of the IP rules."""

from __future__ import annotations

from schema.domain.base import Shape
from schema.domain.security import IpAction


class NewIpRule(Shape):
    """A rule as it was sent."""

    cidr: str
    action: IpAction
    description: str | None = None
