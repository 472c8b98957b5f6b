"""Who may call, read from the contract alone: `endpoints.tsv` and the tables of `platform.md`.

Nothing here looks at the application.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

CONTRACT = Path(__file__).parents[3] / "shared" / "contract"
Endpoint = tuple[str, str]

_ROW = re.compile(r"^\| (GET|POST|PUT|PATCH|DELETE|WS) (/\S*?)(?: \(ours\))? \| ([^|]+) \|")
_WHO = {"pub": "public", "R": "viewer", "W": "operator", "Adm": "admin", "self": "viewer"}

# DESIGN.md, section 1: for these admin in every dialect; section "Settled": other GETs any role.
_ADMIN_WRITES = re.compile(
    r"/settings(/|$)|/integrations(/|$)|/mcp-servers(/|$)|/seed$|^/api/tools$|^/api/permissions$"
    r"|^/api/config/sandbox$"
)
_ADMIN_READS = re.compile(r"^/settings$")

SETTLED: dict[Endpoint, tuple[str, str]] = {
    ("POST", "/api/memory/search"): ("viewer", "a search reads"),
    ("PUT", "/api/profiles/default"): ("admin", "it is the setting llm.default_* (DESIGN.md)"),
}
"""Where the words of the contract need a reader; with the reason."""

_PERSON = {
    ("POST", "/api/v1/auth/change-password"),
    ("POST", "/api/v1/auth/mfa/setup"),
    ("POST", "/api/v1/auth/mfa/verify"),
    ("POST", "/api/v1/auth/mfa/disable"),
    ("POST", "/api/v1/auth/logout"),
    ("POST", "/api/v1/security/api-keys"),
}
"""platform.md, 17: keys cannot log in (or out), change passwords or MFA, or make keys."""
_WORKERS = {
    ("POST", "/api/v1/workers/register"),
    ("POST", "/api/v1/workers/{}/heartbeat"),
    ("GET", "/api/v1/workers/{}/tasks"),
}
"""platform.md, 7: a user's token or an API key with scope `workers`."""
_OPTIONAL = {
    ("POST", "/api/v1/auth/mfa/verify"),
    ("GET", "/api/v1/files/{}/download"),
    ("WS", "/ws"),
    ("WS", "/api/v1/ws"),
}
"""A temporary token in the body, a signature in the URL, a first message may come instead."""


@dataclass(frozen=True)
class Expected:
    """What the contract says of one endpoint."""

    who: str
    """`public`, or the least role: viewer, operator, admin."""
    anonymous_local: bool = False
    person: bool = False
    workers: bool = False
    optional: bool = False
    only_credentials: bool = False
    """Whoever's credentials hold, whatever they may."""


def plain(path: str) -> str:
    """Parameter names are free, their places are not; nor is the final slash part of a path."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/") or "/"


def platform_table() -> dict[Endpoint, str]:
    """The Who column of every table of platform.md, under the base path."""
    found: dict[Endpoint, str] = {}
    for line in (CONTRACT / "platform.md").read_text().splitlines():
        match = _ROW.match(line)
        if match is not None:
            method, path, who = match.groups()
            found[method, plain(f"/api/v1{path}")] = _WHO[who.split()[0]]
    return found


def _least_role(method: str, path: str) -> str:
    if (method, path) in SETTLED:
        return SETTLED[method, path][0]
    if method in {"GET", "WS"}:
        return "admin" if _ADMIN_READS.search(path) else "viewer"
    return "admin" if _ADMIN_WRITES.search(path) else "operator"


def expectations() -> dict[Endpoint, Expected]:
    """Every endpoint of both sources."""
    platform = platform_table()
    found = {endpoint: _expected(endpoint, who, "user") for endpoint, who in platform.items()}
    with (CONTRACT / "endpoints.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            endpoint = row["method"], plain(row["path"])
            who = platform.get(endpoint)
            if who is None:
                is_open = row["auth"] in {"none", "signature"}
                who = "public" if is_open else _least_role(*endpoint)
            elif row["auth"] == "admin":
                assert who == "admin", f"the sources disagree on {endpoint}"
            elif row["auth"] == "none":
                assert who == "public", f"the sources disagree on {endpoint}"
            found[endpoint] = _expected(endpoint, who, row["auth"])
    return found


def _expected(endpoint: Endpoint, who: str, auth: str) -> Expected:
    return Expected(
        who=who,
        anonymous_local=auth == "local",
        person=endpoint in _PERSON,
        workers=endpoint in _WORKERS,
        optional=endpoint in _OPTIONAL,
    )
