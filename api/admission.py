"""Admission: between routing and the route, before its body is read, who may not call is refused.

Every route is wrapped when the application is built, with its row of `api.access` in hand.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import SAFE_METHODS, STREAMS, UNKNOWN_PATH, Rule, Tier, Who, judge, plain, rule_for
from api.credentials import credential_of
from api.revocation import Recheck, close_of, refuse_socket, run_while_holding
from conclave.addresses import AddressFilter
from conclave.caller import Caller, current_caller
from conclave.container import Core
from conclave.errors import (
    ConclaveError,
    Forbidden,
    Unauthenticated,
    Unavailable,
)
from conclave.loopback import is_loopback
from conclave.settings import AuthMode, Settings
from schema.domain.identity import LOCAL_PRINCIPAL, Principal
from schema.domain.security import IpRule

RECHECK_SECONDS = 15.0
"""How soon an open stream notices that its caller may call no more."""


class AddressRefused(Forbidden):
    """The IP rules turn this address away."""

    code = "address_refused"


class Limiter(Protocol):
    """Counts requests before anything else is asked about them."""

    async def check(
        self, scope: Scope, rule: Rule, caller_key: str | None, address: str
    ) -> Mapping[str, str]:
        """Count one request and return the headers that tell how many are left.

        `caller_key` is who the credentials claim to be, unproven; None without any that are
        recognised: then `address` counts. Raises `RateLimited`.
        """
        ...


class _Handle(Protocol):
    """What a route does with a request that was routed to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True)
class _Place:
    """What is known of a route before anybody calls it."""

    rule: Rule
    method: str
    signs_in: bool
    is_filtered: bool
    is_stream: bool = False


def _place(rule: Rule, method: str, path: str) -> _Place:
    return _Place(
        rule=rule,
        method=method,
        signs_in=path.startswith("/api/v1/auth/"),
        is_filtered=_is_filtered(path),
        is_stream=plain(path) in STREAMS,
    )


def _is_filtered(path: str) -> bool:
    """Whether IP rules apply (platform.md, section 17)."""
    return path == "/ws" or (
        path.startswith(("/api/v1/", "/ws/")) and path.rstrip("/") != "/api/v1/health"
    )


class Admission:
    """Guards the routes of one application."""

    def __init__(
        self,
        settings: Settings,
        limiter: Limiter | None = None,
        recheck_seconds: float = RECHECK_SECONDS,
    ) -> None:
        self._is_local = settings.auth_mode is AuthMode.LOCAL
        self._limiter = limiter
        self._recheck_seconds = recheck_seconds
        self._rules: Sequence[IpRule] = ()
        self._filter = AddressFilter(())

    def protect(self, router: Router) -> None:
        """Put every route and what no route answers behind the guard. Raises `NoRule`.

        The routes are copied: routers are shared by all applications of a process.
        """
        router.routes[:] = [self._protected(route) for route in router.routes]
        router.default = self._unknown(router.default)

    def _protected(self, route: BaseRoute) -> BaseRoute:
        guarded = copy.copy(route)
        if isinstance(guarded, Route):
            methods = sorted((guarded.methods or set()) - {"HEAD"})
            places = {
                method: _place(rule_for(method, guarded.path), method, guarded.path)
                for method in methods
            }
            guarded.handle = self._http(guarded.handle, places)
        elif isinstance(guarded, WebSocketRoute):
            place = _place(rule_for("WS", guarded.path), "WS", guarded.path)
            guarded.handle = self._websocket(guarded.handle, place)
        else:
            raise TypeError(f"No rule can be found for {route!r}")
        return guarded

    def _http(self, handle: ASGIApp, places: Mapping[str, _Place]) -> _Handle:
        """Guard a route; a method that it does not know is told to those only who may call."""
        first = next(iter(places.values()))
        is_public = first.rule.who is Who.PUBLIC
        other = first if is_public else replace(first, rule=replace(first.rule, who=Who.ANY))

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await self._serve(places.get(scope["method"], other), handle, scope, receive, send)

        return guarded

    def _unknown(self, default: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                place = _place(UNKNOWN_PATH, "WS", scope["path"])
                await self._websocket(default, place)(scope, receive, send)
            else:
                place = _place(UNKNOWN_PATH, scope["method"], scope["path"])
                await self._serve(place, default, scope, receive, send)

        return guarded

    async def _serve(
        self, place: _Place, handle: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        credential = None if place.rule.who is Who.PUBLIC else credential_of(scope)
        principal = await self._admit(place, scope, credential)
        token = current_caller.set(_caller(scope, principal))
        try:
            if place.is_stream and principal is not None and credential is not None:
                recheck = self._recheck(place, scope, credential, principal)
                await run_while_holding(handle, scope, receive, send, recheck)
            else:
                await handle(scope, receive, send)
        finally:
            current_caller.reset(token)

    def _websocket(self, handle: ASGIApp, place: _Place) -> _Handle:
        """Guard a socket: refused ones are accepted and closed, so that clients learn why."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            credential = credential_of(scope)
            try:
                principal = await self._admit(place, scope, credential)
            except ConclaveError as error:
                await refuse_socket(receive, send, *close_of(error))
                return
            token = current_caller.set(_caller(scope, principal))
            try:
                if principal is None or credential is None:
                    await handle(scope, receive, send)
                else:
                    recheck = self._recheck(place, scope, credential, principal)
                    await run_while_holding(handle, scope, receive, send, recheck)
            finally:
                current_caller.reset(token)

        return guarded

    def _recheck(
        self, place: _Place, scope: Scope, credential: str, principal: Principal
    ) -> Recheck:
        async def ask_again(credential: str) -> Principal:
            if place.is_filtered:
                await self._refuse_address(scope)
            return await _core(scope).authenticator.authenticate(credential)

        return Recheck(ask_again, credential, principal, self._recheck_seconds)

    async def _admit(self, place: _Place, scope: Scope, credential: str | None) -> Principal | None:
        """Return who calls, None where nobody needs to be known; what costs least is asked first.

        Raises `RateLimited`, `AddressRefused`, `Unauthenticated`, `Forbidden`, `Unavailable`.
        """
        rule = place.rule
        if self._limiter is not None and rule.tier is not Tier.NONE:
            await self._count(self._limiter, rule, scope, credential)
        is_asked_for = rule.who is not Who.PUBLIC
        principal = self._anonymous(rule) if is_asked_for and credential is None else None
        if place.is_filtered:
            await self._refuse_address(scope)
        if credential is not None:
            principal = await self._authenticated(place, scope, credential)
        if principal is not None:
            judge(rule, place.method, principal, signs_in=place.signs_in)
            if _writes(place) and not principal.is_admin:
                await self._refuse_in_maintenance(scope)
            scope["principal"] = principal
        return principal

    async def _refuse_in_maintenance(self, scope: Scope) -> None:
        if await _core(scope).configuration.maintenance():
            message = "Maintenance is under way: only administrators may write"
            raise Unavailable(message, retry_after=60.0)

    def _anonymous(self, rule: Rule) -> Principal | None:
        if self._is_local and rule.anonymous_local:
            return LOCAL_PRINCIPAL
        if rule.optional:
            return None
        raise Unauthenticated("Not authenticated")

    async def _authenticated(
        self, place: _Place, scope: Scope, credential: str
    ) -> Principal | None:
        try:
            if not credential:
                raise Unauthenticated("The credentials cannot be read")
            return await _core(scope).authenticator.authenticate(credential)
        except Unauthenticated:
            if place.rule.optional and place.method != "WS":
                return None
            raise

    async def _count(
        self, limiter: Limiter, rule: Rule, scope: Scope, credential: str | None
    ) -> None:
        key = _core(scope).authenticator.recognise(credential) if credential else None
        told = await limiter.check(scope, rule, key, _address(scope))
        _answer_headers(scope).update(told)

    async def _refuse_address(self, scope: Scope) -> None:
        address = _address(scope)
        if is_loopback(address):
            return
        rules = await _core(scope).security.ip_rules()
        if rules is not self._rules:
            if rules != self._rules:
                self._filter = AddressFilter(rules)
            self._rules = rules
        if self._filter.refuses(address):
            raise AddressRefused("This address may not call")


def _writes(place: _Place) -> bool:
    """Whether it is one of the contract's W rows: what signs people in goes on in maintenance."""
    return place.rule.who in (Who.WRITE, Who.WORKERS) and place.method not in SAFE_METHODS


def _core(scope: Scope) -> Core:
    core: object = getattr(scope["app"].state, "core", None)
    if not isinstance(core, Core):
        raise Unavailable("The service is starting.", dependency="core")
    return core


def _address(scope: Scope) -> str:
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else ""


def _answer_headers(scope: Scope) -> dict[str, str]:
    """Return the headers that `RequestContext` puts on the answer, whoever gives it."""
    headers: dict[str, str] = scope.setdefault("answer_headers", {})
    return headers


def _caller(scope: Scope, principal: Principal | None) -> Caller:
    agent: bytes | None = None
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"user-agent":
            agent = value
            break
    known = {} if principal is None else {"principal": principal}
    return Caller(
        **known,
        ip_address=_address(scope) or None,
        user_agent=None if agent is None else agent.decode("latin-1"),
        request_id=scope.get("request_id"),
    )
