"""Remotes: which addresses git may be sent to, where they are pinned, and what we show there."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from conclave.adapters.git.environment import ConfigPairs
from conclave.adapters.git.errors import RemoteUnreachable
from conclave.adapters.net.addresses import parse_address
from conclave.adapters.net.guard import UNRESOLVED, OutgoingGuard, PinnedTarget
from conclave.errors import UrlRefused


@dataclass(frozen=True)
class Credential:
    """What is shown to a host over https; never part of a URL or of a command line."""

    user: str
    token: str = field(repr=False)

    def header(self) -> str:
        """Return the header that shows it."""
        pair = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
        return f"Authorization: Basic {pair}"


def known_credentials(environment: Mapping[str, str]) -> dict[str, Credential]:
    """Return what GITHUB_TOKEN and GITLAB_TOKEN are good for, by host."""
    users = {
        "github.com": ("GITHUB_TOKEN", "x-access-token"),
        "gitlab.com": ("GITLAB_TOKEN", "oauth2"),
    }
    return {
        host: Credential(user, environment[name])
        for host, (name, user) in users.items()
        if environment.get(name)
    }


class GuardedRemotes:
    """Judges remotes' URLs by the outgoing guard.

    Only the `protocols` named are let through; `file`, which no guard can judge, is for tests.
    """

    def __init__(
        self,
        guard: OutgoingGuard,
        protocols: Collection[str] = ("https",),
        credentials: Mapping[str, Credential] | None = None,
    ) -> None:
        self._guard = guard
        self._protocols = frozenset(protocols)
        self._credentials = dict(credentials or {})

    async def check(self, url: str, *, field: str) -> None:
        """Raise `UrlRefused`; a name without an address just now is for the checkout to tell."""
        try:
            await self._resolve(url, field)
        except UrlRefused as error:
            if error.details.get("type") != UNRESOLVED:
                raise

    async def settings(self, url: str, *, field: str) -> ConfigPairs:
        """Return the settings under which git reaches the judged address and no other.

        Raises `UrlRefused`, and `RemoteUnreachable` where the name has no address.
        """
        try:
            target = await self._resolve(url, field)
        except UrlRefused as error:
            if error.details.get("type") == UNRESOLVED:
                raise RemoteUnreachable(error.message) from None
            raise
        if target is None:
            return ()
        return self._pinned(target)

    def _pinned(self, target: PinnedTarget) -> ConfigPairs:
        address = target.address
        if ip_address(address).version == 6:
            address = f"[{address}]"
        pairs: list[tuple[str, str]] = []
        if parse_address(target.host) is None:  # git asks nobody where an address is
            pairs.append(("http.curloptResolve", f"{target.host}:{target.port}:{address}"))
        credential = self._credentials.get(target.host)
        if credential is not None and (target.scheme, target.port) == ("https", 443):
            pairs.append((f"http.https://{target.host}/.extraHeader", credential.header()))
        return pairs

    async def _resolve(self, url: str, field: str) -> PinnedTarget | None:
        scheme = urlsplit(url).scheme.lower() if url.isprintable() else ""
        if scheme not in self._protocols:
            wanted = " or ".join(f"{name}://" for name in sorted(self._protocols))
            raise UrlRefused(field, f"The URL must start with {wanted}.")
        if scheme == "file":
            return None
        target = await self._guard.resolve(url, field=field)
        written = (urlsplit(url).hostname or "").lower()
        if parse_address(target.host) is None and written != target.host:
            # git pins by the name as it is written, and would ask the DNS itself about another.
            raise UrlRefused(field, f"Write the host of the URL as {target.host}.")
        return target
