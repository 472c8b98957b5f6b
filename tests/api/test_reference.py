import re

import httpx
from fastapi import FastAPI

from api.app import create_app
from conclave.settings import AuthMode, Settings
from tests.api.conftest import BASE_URL, local_client


async def loaded(client: httpx.AsyncClient) -> list[str]:
    page = await client.get("/docs")
    assert page.status_code == 200
    return re.findall(r'(?:src|href)="([^"]+)"', page.text)


async def test_the_reference_asks_no_other_host(app: FastAPI):
    async with local_client(app) as client:
        addresses = await loaded(client)
        assert len(addresses) == 3
        for address in addresses:
            assert not address.startswith(("http", "//"))
            if address.startswith("/"):
                answer = await client.get(address)
                assert answer.status_code == 200
                assert len(answer.content) > 10_000


async def test_the_reference_is_open_where_credentials_are_required():
    app = create_app(Settings(auth_mode=AuthMode.REQUIRED))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        for address in await loaded(client):
            if address.startswith("/"):
                assert (await client.get(address)).status_code == 200
