"""What callers ask of costs."""

from __future__ import annotations

from decimal import Decimal

from schema.domain.base import Shape

DEFAULT_THRESHOLDS = [Decimal(80), Decimal(90), Decimal(100)]


_NANO = Decimal("0.000000001")


class SetBudget(Shape):
    """The platform's budget as a whole. A limit of 0 is none."""

    monthly_limit_usd: Decimal
    alert_thresholds: list[Decimal] = DEFAULT_THRESHOLDS
    """Percent of the limit."""
    hard_stop: bool = True

    def amount(self, threshold: Decimal) -> Decimal:
        """Return the spend that passes a threshold: some, for one of 0 %."""
        return max(self.monthly_limit_usd * threshold / 100, _NANO)


class SetPrice(Shape):
    """What a model costs, in USD for a million tokens."""

    provider: str
    model: str
    input_usd_per_million: Decimal
    output_usd_per_million: Decimal
