"""The OpenAPI document, which says of every operation what credentials it takes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from api.access import Rule, Who, rule_for

_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token, an API key, or the gateway token (`conclave token`).",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key, made by `POST /api/v1/security/api-keys`.",
    },
}


class DescribedAPI(FastAPI):
    """FastAPI whose document names the security schemes of the table in `api.access`."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            document.setdefault("components", {})["securitySchemes"] = _SCHEMES
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    operation["security"] = _requirements(rule_for(method.upper(), path))
        return super().openapi()


def _requirements(rule: Rule) -> list[dict[str, list[str]]]:
    """Return the ways in, `{}` for none needed (OpenAPI 3.1, Security Requirement Object)."""
    if rule.who is Who.PUBLIC:
        return []
    ways: list[dict[str, list[str]]] = [{"bearer": []}]
    if rule.who is not Who.PERSON:
        ways.append({"apiKey": []})
    if rule.anonymous_local or rule.optional:
        ways.append({})
    return ways
