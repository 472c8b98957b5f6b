"""The platform dialect: /api/v1, its error envelope and the contract's error codes."""

from __future__ import annotations

from pydantic import JsonValue
from structlog.contextvars import get_contextvars

from api.dialect import Dialect, Flaw, Problem

_BY_CODE = {
    "invalid_credentials": "AUTH_001",
    "token_expired": "AUTH_003",
    "token_revoked": "AUTH_004",
    "locked": "AUTH_006",
    "account_disabled": "AUTH_007",
    "invalid_mfa_code": "AUTH_009",
    "invalid_refresh_token": "AUTH_010",
    "weak_password": "AUTH_011",
    "password_reused": "AUTH_012",
    "address_refused": "AUTH_013",
    "limited_session": "AUTH_014",
    "wrong_password": "AUTH_001",
    "undecipherable_secret": "SEC_002",
    "name_taken": "RES_002",
    "email_taken": "RES_002",
    "slug_taken": "RES_002",
    "workflow_cycle": "WFL_003",
}
_BY_STATUS = {
    400: "VAL_001",
    401: "AUTH_002",
    402: "SVC_001",
    403: "AUTH_005",
    404: "RES_001",
    405: "VAL_001",
    409: "RES_003",
    413: "STG_003",
    415: "STG_001",
    416: "VAL_001",
    422: "VAL_002",
    423: "AUTH_006",
    429: "RATE_001",
    500: "SYS_001",
    502: "SVC_001",
    503: "SVC_002",
    504: "SVC_003",
}
"""The contract's table of codes, by what the core says first, by the status else."""
_NAMES = {
    400: "bad_request",
    401: "unauthenticated",
    404: "not_found",
    405: "method_not_allowed",
    422: "invalid",
    500: "internal_error",
}


def _flaw(flaw: Flaw) -> JsonValue:
    return {
        "field": ".".join(str(part) for part in flaw.loc),
        "message": flaw.msg,
        "type": flaw.type,
    }


def render(problem: Problem) -> JsonValue:
    """Render the envelope; what is wrong with a request stands in `details.errors`."""
    details = dict(problem.details)
    if problem.flaws:
        details["errors"] = [_flaw(flaw) for flaw in problem.flaws]
    name = problem.code or _NAMES.get(problem.status, f"http_{problem.status}")
    request_id: object = get_contextvars().get("request_id", "")
    return {
        "detail": problem.message,
        "error_code": _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status, "SYS_001"),
        "error_name": name.upper(),
        "details": details,
        "request_id": str(request_id),
    }


PLATFORM = Dialect(name="platform", prefixes=("/api/v1",), render=render)
