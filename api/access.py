"""Who may call: the one table of every route, and how a principal is judged by it.

`api.admission` enforces it. A route without a row keeps the application from being built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from conclave.errors import Forbidden
from schema.domain.identity import Principal, PrincipalKind, Role, Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "WS"})


class Who(StrEnum):
    """Who may call a route."""

    PUBLIC = "public"
    """Anybody; credentials are not looked at."""
    ANY = "any"
    """Whoever's credentials hold: for what does not exist."""
    READ = "read"
    """Any role."""
    SELF = "self"
    """Any role; the service shows and changes the caller's own rows only."""
    WRITE = "write"
    """Operator and admin."""
    ADMIN = "admin"
    PERSON = "person"
    """A user who has signed in, never an API key or another machine's token."""
    WORKERS = "workers"
    """Operator and admin, a key with the scope `workers`, a worker node."""


class Tier(StrEnum):
    """Which rate limit counts a request (gathering.md; platform.md, 0.5)."""

    STRICT = "strict"
    STANDARD = "standard"
    RELAXED = "relaxed"
    BULK = "bulk"
    PLATFORM = "platform"
    NONE = "none"


@dataclass(frozen=True)
class Rule:
    """What the table says of one route and method."""

    who: Who
    tier: Tier
    anonymous_local: bool = False
    """Under AUTH_MODE=local a caller on this machine needs no credentials."""
    optional: bool = False
    """Without credentials that hold the route itself judges: by a signature, a temporary token."""


class NoRule(LookupError):
    """A route that the table does not name."""


@dataclass(frozen=True)
class _Group:
    """Rows `PATH METHOD who[?] [tier], ...`; `?` makes credentials optional.

    Parameters are written `{}`; `{:path}` is only for what spans segments. The usual tier of a
    group without one: relaxed for GET of a path that ends in no parameter, else standard.
    """

    rows: str
    prefix: str = ""
    anonymous_local: bool = False
    tier: Tier | None = None


_OPEN = _Group(
    tier=Tier.NONE,
    rows="""
    /health                                 GET public
    /health/system                          GET public
    /health/checks                          GET public
    /health/ready                           GET public
    /health/live                            GET public
    /api/health                             GET public
    /api/v1/health                          GET public
    /metrics                                GET public
    /api/v1/metrics                         GET public
    /docs                                   GET public
    /docs/swagger-ui.css                    GET public
    /docs/swagger-ui-bundle.js              GET public
    /docs/start.js                          GET public
    /redoc                                  GET public
    /openapi.json                           GET public
    /webhook/{}                             POST public
    """,
)
"""`/webhook/{slug}` judges the signature itself."""

_CODEC = _Group(
    tier=Tier.NONE,
    anonymous_local=True,
    rows="""
    /codec/decode                           POST admin
    /codec/encode                           POST admin
    """,
)

_GATHERING = _Group(
    anonymous_local=True,
    rows="""
    /agents                                 GET read, POST write
    /agents/{}                              GET read, PATCH write, DELETE write
    /agents/{}/sessions                     GET self, POST write
    /agents/{}/memories                     GET read
    /circles                                GET read, POST write
    /circles/{}                             GET read, PATCH write, DELETE write
    /circles/{}/start                       POST write
    /circles/{}/pause                       POST write
    /circles/{}/resume                      POST write
    /circles/{}/archive                     POST write
    /circles/{}/agents                      GET read, POST write
    /circles/{}/agents/{}                   DELETE write
    /conversations                          GET read, POST write
    /conversations/{}                       GET read
    /conversations/{}/messages              GET read
    /conversations/{}/events                GET read
    /conversations/{}/advance               POST write
    /conversations/{}/end                   POST write
    /workspace/{}/info                      GET read
    /workspace/{}/files                     GET read
    /workspace/{}/files/{}                  GET read, PUT write, DELETE write
    /workspace/{}/files/{}/rename           POST write
    /workspace/{}/git/status                GET read
    /workspace/{}/git/commits               GET read
    /workspace/{}/git/stage                 POST write
    /workspace/{}/git/unstage               POST write
    /workspace/{}/git/commit                POST write
    /workspace/{}/git/push                  POST write
    /workspace/{}/git/pull                  POST write
    /workspace/{}/git/diff                  GET read
    /memory                                 POST write
    /memory/search                          GET read
    /memory/{}                              DELETE write
    /dashboard/circles                      GET read
    /dashboard/agents                       GET read
    /dashboard/activity                     GET read
    /dashboard/stats                        GET read
    /settings                               GET admin
    /settings/providers/{}                  PATCH admin
    /settings/providers/{}/test             POST admin
    /settings/application                   PATCH admin
    /tools/skills                           GET read
    /tools/skills/categories                GET read
    /tools/agents/{}                        GET read
    /tools/agents/{}/skills/{}              PATCH write
    /tools/agents/{}/skills/bulk            POST write bulk
    /tools/agents/{}/skills/enable-all      POST write bulk
    /tools/agents/{}/skills/disable-all     POST write bulk
    /tools/agents/{}/enabled                GET read
    /ws/dashboard                           WS read
    /ws/circles/{}                          WS read
    /ws/agents/{}                           WS read
    /ws/workspace/{}                        WS read
    /ws/conversations/{}                    WS read
    /ws/{:path}                             WS any
    """,
)

_AETHER = _Group(
    prefix="/api",
    anonymous_local=True,
    rows="""
    /agents                                 GET read, POST write
    /agents/seed                            POST admin bulk
    /agents/capabilities/seed               POST admin bulk
    /agents/{}                              GET read, PUT write, DELETE write
    /agents/{}/capabilities                 GET read, POST write
    /agents/{}/capabilities/{}              DELETE write
    /agents/{}/audit                        GET read
    /projects                               GET read, POST write
    /projects/{}                            GET read, PUT write, DELETE write
    /tasks                                  GET read, POST write
    /tasks/seed                             POST admin bulk
    /tasks/triggers                         GET read, POST write
    /tasks/triggers/seed                    POST admin bulk
    /tasks/sources                          GET read, POST write
    /tasks/sources/seed                     POST admin bulk
    /tasks/{}                               GET read
    /tasks/{}/restart                       POST write
    /webhook-mappings                       GET read, POST write
    /webhook-mappings/seed                  POST admin bulk
    /integrations                           GET read, POST admin
    /integrations/{}                        PUT admin, DELETE admin
    /integrations/{}/test                   GET read standard
    /tools                                  GET read, POST admin
    /tools/seed                             POST admin bulk
    /tool-executions                        GET read
    /memory                                 GET read, POST write
    /memory/search                          POST read
    /memory/{}                              GET read, DELETE write
    /poll-sources                           GET read, POST write
    /poll-sources/{}                        PUT write, DELETE write
    /poll-sources/{}/poll                   POST write
    /llm/chat                               POST write
    /mcp-servers                            GET read, POST admin
    /mcp-servers/discover                   POST admin
    /watchdog                               GET read
    /usage                                  GET read
    """,
)

_GATEWAY = _Group(
    rows="""
    /api/chats                              GET self, POST write
    /api/chats/{}                           GET self, DELETE write
    /api/chats/{}/context                   GET self
    /api/chats/{}/compact                   POST write
    /api/chats/{}/profile                   GET self, PUT write
    /api/profiles                           GET read, POST write
    /api/profiles/{}                        DELETE write
    /api/profiles/default                   GET read, PUT admin
    /api/permissions                        GET read, PUT admin
    /api/permissions/tools                  GET read
    /api/config/sandbox                     GET read, PUT admin
    /ws/{}                                  WS self
    /api/chats/{}/active-profile            GET self, POST write
    /api/chats/{}/cancel                    POST write
    /api/chats/{}/panic                     POST write
    /api/panic                              POST write
    /api/profiles/default/current           GET read
    /api/profiles/default/set               POST admin
    /api/sandbox                            GET read, POST admin
    /api/sandbox/build                      POST admin
    """,
)
"""The default profile is the platform's setting `llm.default_*`, so an admin's to choose."""

_PLATFORM_STREAM = _Group(
    tier=Tier.PLATFORM,
    rows="""
    /ws                                     WS read?
    /api/v1/ws                              WS read?
    """,
)
"""The token may come as the first message instead: the route judges that one."""

_PLATFORM = _Group(
    prefix="/api/v1",
    tier=Tier.PLATFORM,
    rows="""
    /auth/login                             POST public strict
    /auth/register                          POST public strict
    /auth/refresh                           POST public strict
    /auth/me                                GET self, PUT self
    /auth/change-password                   POST person
    /auth/mfa/setup                         POST person
    /auth/mfa/verify                        POST person? strict
    /auth/verify-mfa                        POST public strict
    /auth/mfa/disable                       POST person strict
    /auth/logout                            POST person
    /agents                                 GET read, POST write
    /agents/{}                              GET read, PATCH write, DELETE write
    /agents/{}/start                        POST write
    /agents/{}/stop                         POST write
    /agents/{}/memories                     GET read, POST write
    /agents/memories/{}                     PUT write, DELETE write
    /agents/{}/memory-stats                 GET read
    /tasks                                  GET read, POST write
    /tasks/stats                            GET read
    /tasks/{}                               GET read, PATCH write
    /tasks/{}/cancel                        POST write
    /workflows                              GET read, POST write
    /workflows/{}                           GET read, DELETE write
    /workflows/{}/steps                     POST write
    /workflows/{}/run                       POST write
    /workflows/{}/runs                      GET read
    /workflows/{}/runs/{}                   GET read
    /workflows/{}/runs/{}/cancel            POST write
    /messages                               GET read
    /messages/send                          POST write
    /messages/{}/read                       PATCH read
    /files                                  GET read
    /files/upload                           POST write
    /files/{}                               GET read, DELETE write
    /files/{}/download                      GET read?
    /files/{}/url                           GET read
    /workers/register                       POST workers
    /workers/{}/heartbeat                   POST workers
    /workers/{}/tasks                       GET workers
    /workers/overview                       GET read
    /admin/users                            GET admin, POST admin
    /admin/users/{}                         PATCH admin
    /admin/workers                          GET admin
    /admin/workers/{}/approve               PATCH admin
    /admin/audit                            GET admin
    /settings                               GET admin
    /settings/{}/{}                         PUT admin
    /settings/bulk                          PUT admin
    /settings/health                        GET admin
    /analytics/overview                     GET read
    /analytics/agents                       GET read
    /analytics/tasks/timeline               GET read
    /analytics/workers/utilization          GET read
    /knowledge                              GET read, POST write
    /knowledge/{}                           GET read, DELETE write
    /collaboration                          GET read, POST write
    /collaboration/{}                       GET read
    /collaboration/{}/messages              POST write
    /collaboration/{}/context               POST write
    /collaboration/{}/close                 POST write
    /chat/conversations                     GET self, POST write
    /chat/conversations/{}                  DELETE self
    /chat/conversations/{}/messages         GET self, POST write
    /cost/summary                           GET read
    /cost/daily                             GET read
    /cost/by-agent                          GET read
    /cost/by-provider                       GET read
    /cost/budget                            GET read, PUT admin
    /cost/prices                            GET read, PUT admin
    /circuit-breakers                       GET admin, POST admin
    /circuit-breakers/{}                    GET admin
    /circuit-breakers/{}/force-open         POST admin
    /circuit-breakers/{}/force-close        POST admin
    /circuit-breakers/{}/reset              POST admin
    /dead-letter                            GET admin, POST admin
    /dead-letter/{}                         GET admin, DELETE admin
    /dead-letter/{}/retry                   POST admin
    /dead-letter/retry-all                  POST admin
    /dead-letter/stats                      GET admin
    /security                               GET admin, PUT admin
    /security/password-policy               GET admin, PUT admin
    /security/sessions                      GET admin
    /security/sessions/{}                   DELETE admin
    /security/ip-rules                      GET admin, PUT admin
    /security/api-keys                      GET self, POST person
    /security/api-keys/{}                   DELETE self
    /triggers                               GET read, POST write
    /triggers/{}                            GET read, PUT write, DELETE write
    /triggers/{}/toggle                     POST write
    /triggers/{}/history                    GET read
    /triggers/{}/test                       POST write
    /notifications                          GET self
    /notifications/unread-count             GET self
    /notifications/{}/read                  PUT self
    /notifications/read-all                 PUT self
    /notifications/channels                 GET admin, POST admin
    /notifications/channels/{}              PUT admin, DELETE admin
    /notifications/rules                    GET admin, POST admin
    /notifications/rules/{}                 PUT admin, DELETE admin
    /webhooks                               GET read, POST write
    /webhooks/{}                            GET read, PUT write, DELETE write
    /webhooks/{}/test                       POST write
    /webhooks/{}/deliveries                 GET read
    /approvals                              GET read, POST read
    /approvals/{}                           GET read
    /approvals/{}/approve                   POST write
    /approvals/{}/reject                    POST write
    /ssh-connections                        GET admin, POST admin
    /ssh-connections/{}                     GET admin, PUT admin, DELETE admin
    /ssh-connections/{}/test                POST admin
    /ssh-connections/{}/execute             POST admin
    /secrets                                GET admin, POST admin
    /secrets/{}                             GET admin, PUT admin, DELETE admin
    /secrets/{}/rotate                      POST admin
    /secrets/expiring                       GET admin
    /code-reviews                           GET read, POST write
    /code-reviews/{}                        GET read
    /code-reviews/{}/approve                POST write
    /code-reviews/{}/reject                 POST write
    /code-reviews/{}/comment                POST read
    /marketplace/templates                  GET read
    /marketplace/templates/{}               GET read
    /marketplace/templates/{}/install       POST write
    /exports/{}                             GET read
    """,
)

_GROUPS = (_OPEN, _CODEC, _GATHERING, _AETHER, _GATEWAY, _PLATFORM_STREAM, _PLATFORM)
UNKNOWN_PATH = Rule(Who.ANY, Tier.STANDARD, anonymous_local=True)
"""Whoever may not call at all is not told what exists."""


def plain(path: str) -> str:
    """Write a path as the table does: parameters have places, not names; no final slash."""
    spanning = re.sub(r"\{[^{}:]*:path\}", "{:path}", path)
    short = re.sub(r"\{(?!:path\})[^{}]*\}", "{}", spanning)
    return short.rstrip("/") or "/"


def _usual_tier(method: str, path: str) -> Tier:
    return Tier.RELAXED if method == "GET" and not path.endswith("}") else Tier.STANDARD


def _rows(group: _Group) -> Iterator[tuple[tuple[str, str], Rule]]:
    for line in filter(None, map(str.strip, group.rows.splitlines())):
        own_path, grants = line.split(maxsplit=1)
        path = group.prefix + own_path
        for grant in grants.split(","):
            method, who, *tier = grant.split()
            chosen = Tier(tier[0]) if tier else group.tier or _usual_tier(method, path)
            rule = Rule(
                who=Who(who.removesuffix("?")),
                tier=chosen,
                anonymous_local=group.anonymous_local,
                optional=who.endswith("?"),
            )
            yield (method, path), rule


def _read_table() -> dict[tuple[str, str], Rule]:
    table: dict[tuple[str, str], Rule] = {}
    for group in _GROUPS:
        for key, rule in _rows(group):
            if key in table:
                raise ValueError(f"Two rules for {' '.join(key)}")
            table[key] = rule
    return table


TABLE: Mapping[tuple[str, str], Rule] = _read_table()
"""(method or WS, path as `plain` writes it) → rule."""
STREAMS = frozenset({"/conversations/{}/events"})
"""GETs that answer for as long as the client stays: the caller's rights are asked for again."""


def rule_for(method: str, path: str) -> Rule:
    """Return the rule of a route. Raises `NoRule`, so that no route is open by oversight."""
    short = plain(path)
    rule = TABLE.get((method, short)) or TABLE.get((method, short.replace("{:path}", "{}")))
    if rule is None:
        raise NoRule(f"{method} {path} has no row in api/access.py: who may call it?")
    return rule


class LimitedSession(Forbidden):
    """The session reaches /api/v1/auth/* only until what it lacks is made good."""

    code = "limited_session"


_WRITING_SCOPES = frozenset({Scope.WRITE, Scope.ADMIN})
_ROLES = {
    Who.READ: Role.VIEWER,
    Who.SELF: Role.VIEWER,
    Who.PERSON: Role.VIEWER,
    Who.WRITE: Role.OPERATOR,
    Who.ADMIN: Role.ADMIN,
}
_LIMITS = {
    "password_expired": "The password has expired: change it first",
    "mfa_setup_required": "A second factor is required: set it up first",
}


def judge(rule: Rule, method: str, principal: Principal, *, signs_in: bool) -> None:
    """Raise `Forbidden` unless the principal may call; `signs_in`: the path is of /api/v1/auth."""
    if principal.limited is not None and not signs_in:
        raise LimitedSession(_LIMITS.get(principal.limited, "This session reaches /auth only"))
    if rule.who is Who.WORKERS:
        if not _is_worker(principal) and not principal.has(Role.OPERATOR):
            raise Forbidden("For workers, operators and admins")
    elif rule.who is not Who.ANY:
        _judge_role(rule.who, principal)
        if method not in SAFE_METHODS and not _may_write(principal):
            raise Forbidden("This API key only reads")


def _judge_role(who: Who, principal: Principal) -> None:
    if principal.kind is PrincipalKind.WORKER_NODE:
        raise Forbidden("A worker node reaches its own endpoints only")
    if who is Who.PERSON and principal.kind is not PrincipalKind.USER:
        raise Forbidden("Only a user who has signed in may do this")
    role = _ROLES[who]
    if not principal.has(role):
        raise Forbidden(f"Needs the role {role.value}, or a key with that right")


def _is_worker(principal: Principal) -> bool:
    return principal.kind is PrincipalKind.WORKER_NODE or (
        principal.scopes is not None and Scope.WORKERS in principal.scopes
    )


def _may_write(principal: Principal) -> bool:
    return principal.scopes is None or bool(principal.scopes & _WRITING_SCOPES)
