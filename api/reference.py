"""The API's reference at /docs, served without asking any other host.

Swagger UI's files come with litellm's distribution. They are found by path: litellm itself is
not imported here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

from api.input import CheckedRouter
from conclave.errors import NotFound

STYLE = "/docs/swagger-ui.css"
SCRIPT = "/docs/swagger-ui-bundle.js"
_NO_ICON = "data:,"
_DAY = {"Cache-Control": "public, max-age=86400"}

router = CheckedRouter(include_in_schema=False)


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    """Show every operation, to read and to try."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Conclave",
        swagger_js_url=f"{root}{SCRIPT}",
        swagger_css_url=f"{root}{STYLE}",
        swagger_favicon_url=_NO_ICON,
    )


@router.get(STYLE)
async def style() -> FileResponse:
    """Return Swagger UI's style sheet."""
    return FileResponse(_asset("swagger-ui.css"), media_type="text/css", headers=_DAY)


@router.get(SCRIPT)
async def script() -> FileResponse:
    """Return Swagger UI's program."""
    return FileResponse(_asset("swagger-ui-bundle.js"), media_type="text/javascript", headers=_DAY)


def _asset(name: str) -> Path:
    spec = importlib.util.find_spec("litellm")
    for place in (spec and spec.submodule_search_locations) or ():
        found = Path(place) / "proxy" / "swagger" / name
        if found.is_file():
            return found
    raise NotFound(f"{name} is not installed")
