"""The guard of outgoing URLs as this product sets it up: closed to all that it stands on."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.urls import Endpoint, endpoints_of, parse_allow
from conclave.ports.identity import SecurityPolicy
from conclave.settings import Settings


def outgoing_guard(
    settings: Settings, security: SecurityPolicy, environment: Mapping[str, str]
) -> OutgoingGuard:
    """Return the one guard of outgoing URLs. Raises ValueError for a list it cannot honour."""

    async def private_webhooks() -> bool:
        return (await security.current()).webhooks.allow_private_addresses

    return OutgoingGuard(
        allow=parse_allow(settings.outgoing_allow),
        own_ports=own_ports(settings),
        own_endpoints=own_endpoints(settings, environment),
        private_webhooks=private_webhooks,
    )


def own_ports(settings: Settings) -> frozenset[int]:
    """Return the ports of this product, which nothing an agent supplies may reach."""
    ports = {settings.api_port}
    for address in (settings.temporal_address, settings.temporal_ui_url or ""):
        _, _, port = address.rstrip("/").rpartition(":")
        if port.isdigit():
            ports.add(int(port))
    return frozenset(ports)


def own_endpoints(settings: Settings, environment: Mapping[str, str]) -> frozenset[Endpoint]:
    """Return what this product stands on, which nothing an agent supplies may reach."""
    found = (
        endpoints_of(settings.database_url, 5432)
        | endpoints_of(_revealed(settings.redis_url), 6379)
        | endpoints_of(settings.temporal_address, 7233)
        | endpoints_of(settings.temporal_ui_url)
    )
    if (settings.object_store_url or "").startswith(("http://", "https://")):
        found |= endpoints_of(settings.object_store_url)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        found |= endpoints_of(environment.get(name))
    return found


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
