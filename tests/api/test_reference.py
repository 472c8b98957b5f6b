import re

import httpx
from fastapi import FastAPI

from api.app import create_app
from conclave.settings import AuthMode, Settings
from tests.api.conftest import BASE_URL, local_client

PAGES = ("/docs", "/redoc")


async def loaded(client: httpx.AsyncClient, path: str) -> list[str]:
    page = await client.get(path)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "<script>" not in page.text, "an inline script would not run"
    return re.findall(r'(?:src|href)="([^"]+)"', page.text)


async def test_the_reference_asks_no_other_host(app: FastAPI):
    async with local_client(app) as client:
        for path in PAGES:
            addresses = await loaded(client, path)
            assert len(addresses) == 4
            for address in addresses:
                assert not address.startswith(("http", "//"))
                if address.startswith("/"):
                    answer = await client.get(address)
                    assert answer.status_code == 200
                    assert "max-age" in answer.headers["cache-control"]
                    assert len(answer.content) > (300 if "start" in address else 10_000)


async def test_the_reference_is_open_where_credentials_are_required():
    app = create_app(Settings(auth_mode=AuthMode.REQUIRED))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        addresses = [address for path in PAGES for address in await loaded(client, path)]
        for address in addresses:
            if address.startswith("/"):
                assert (await client.get(address)).status_code == 200


async def test_every_operation_says_which_credentials_it_takes(client):
    document = (await client.get("/openapi.json")).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    paths = document["paths"]
    assert paths["/health"]["get"]["security"] == []
    assert {} in paths["/agents"]["get"]["security"]
    assert paths["/api/v1/admin/users"]["get"]["security"] == [{"bearer": []}, {"apiKey": []}]
    assert paths["/api/v1/auth/change-password"]["post"]["security"] == [{"bearer": []}]
