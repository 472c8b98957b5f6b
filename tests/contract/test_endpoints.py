"""The table of endpoints against the application."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import Route

from api.app import DIALECTS, create_app
from api.dialect import dialect_of
from api.input import refuse_unstorable
from conclave.settings import AuthMode, Settings

HERE = Path(__file__).parent
TABLE = HERE.parents[2] / "shared" / "contract" / "endpoints.tsv"
NOT_YET_OWED = HERE / "not_yet_owed.txt"
Endpoint = tuple[str, str]


def plain(path: str) -> str:
    """Parameter names are free, their places are not; a last slash is the same path."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/") or "/"


def rows() -> list[dict[str, str]]:
    with TABLE.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def endpoint(row: dict[str, str]) -> Endpoint:
    return row["method"], plain(row["path"])


def not_yet_owed() -> list[Endpoint]:
    lines = NOT_YET_OWED.read_text().splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return [(method, plain(path)) for method, path in pairs]


def make_app() -> FastAPI:
    return create_app(Settings(auth_mode=AuthMode.LOCAL))


def offered(app: FastAPI) -> dict[Endpoint, APIRoute | None]:
    found: dict[Endpoint, APIRoute | None] = {}
    for route in app.routes:
        if isinstance(route, APIWebSocketRoute):
            found[("WS", plain(route.path))] = None
        elif isinstance(route, Route):
            for method in (route.methods or set()) - {"HEAD"}:
                found[(method, plain(route.path))] = None
        if isinstance(route, APIRoute):
            for method in route.methods or set():
                found[(method, plain(route.path))] = route
    return found


with_table = pytest.mark.skipif(not TABLE.exists(), reason="no table beside this checkout")


@with_table
def test_every_endpoint_that_is_owed_exists():
    missing = {endpoint(row) for row in rows()} - set(not_yet_owed()) - set(offered(make_app()))
    assert not missing


@with_table
def test_the_list_of_what_is_not_owed_yet_only_shrinks():
    listed = not_yet_owed()
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(offered(make_app())), "these exist: take them off the list"
    assert set(listed) <= {endpoint(row) for row in rows()}, "these are in no table"


@with_table
def test_success_statuses_are_those_of_the_table():
    found = offered(make_app())
    for row in rows():
        route = found.get(endpoint(row))
        if route is not None:
            assert str(route.status_code or 200) == row["success"], endpoint(row)


def test_every_route_refuses_what_cannot_be_stored():
    for route in make_app().routes:
        if isinstance(route, APIRoute | APIWebSocketRoute):
            checks = [dependency.dependency for dependency in route.dependencies]
            assert refuse_unstorable in checks, route.path


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = make_app().openapi()["paths"]
    return [(path, method, one) for path, item in paths.items() for method, one in item.items()]


@pytest.mark.parametrize(("path", "method", "operation"), operations())
def test_every_operation_is_documented(path, method, operation):
    assert operation["tags"]
    assert operation["summary"]
    assert operation["description"]
    responses = operation["responses"]
    errors = [status for status in responses if status >= "400"]
    assert errors
    for status in errors:
        assert responses[status]["description"]
        assert responses[status]["content"]["application/json"]["schema"]
    success = next(status for status in responses if status < "300")
    if success != "204":
        content = next(iter(responses[success]["content"].items()))
        assert content[0] == "text/event-stream" or content[1]["schema"], "no response model"
    misfit = str(dialect_of(path, DIALECTS).invalid_status)
    if "requestBody" in operation:
        assert {"400", "413", misfit} <= set(responses)
    if "{" in path:
        assert misfit in responses
