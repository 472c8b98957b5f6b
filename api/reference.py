"""The API's reference at /docs and /redoc, served without asking any other host.

Swagger UI's files come with litellm's distribution. They are found by path: litellm itself is
not imported here. ReDoc's program comes with nothing that is installed, so /redoc is the same
reference opened out for reading, without forms to try operations.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from api.input import CheckedRouter
from conclave.errors import NotFound

STYLE = "/docs/swagger-ui.css"
SCRIPT = "/docs/swagger-ui-bundle.js"
START = "/docs/start.js"
_DAY = {"Cache-Control": "public, max-age=86400"}
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}
"""Swagger UI writes style attributes; its scripts are files, so inline ones stay forbidden."""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Conclave</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}{style}">
</head>
<body>
<div id="reference" data-openapi="{root}/openapi.json" data-mode="{mode}"></div>
<script src="{root}{script}"></script>
<script src="{root}{start}"></script>
</body>
</html>
"""
_START = """const place = document.getElementById("reference");
const reads = place.dataset.mode === "read";
const reading = { docExpansion: "full", supportedSubmitMethods: [] };
SwaggerUIBundle({
  url: place.dataset.openapi,
  domNode: place,
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  ...(reads ? reading : {}),
});
"""

router = CheckedRouter(include_in_schema=False)


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    """Show every operation, to read and to try."""
    return _page(request, "try")


@router.get("/redoc")
async def reading(request: Request) -> HTMLResponse:
    """Show every operation opened out, to read."""
    return _page(request, "read")


@router.get(STYLE)
async def style() -> FileResponse:
    """Return Swagger UI's style sheet."""
    return FileResponse(_asset("swagger-ui.css"), media_type="text/css", headers=_DAY)


@router.get(SCRIPT)
async def script() -> FileResponse:
    """Return Swagger UI's program."""
    return FileResponse(_asset("swagger-ui-bundle.js"), media_type="text/javascript", headers=_DAY)


@router.get(START)
async def start() -> Response:
    """Return what starts it on the page that asks."""
    return Response(_START, media_type="text/javascript", headers=_DAY)


def _page(request: Request, mode: str) -> HTMLResponse:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    page = _PAGE.format(root=root, style=STYLE, script=SCRIPT, start=START, mode=mode)
    return HTMLResponse(page, headers=_POLICY)


def _asset(name: str) -> Path:
    spec = importlib.util.find_spec("litellm")
    for place in (spec and spec.submodule_search_locations) or ():
        found = Path(place) / "proxy" / "swagger" / name
        if found.is_file():
            return found
    raise NotFound(f"{name} is not installed")
