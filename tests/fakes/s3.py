"""An S3 server that keeps objects in memory and checks signatures (AWS Signature Version 4)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)


@dataclass
class FakeS3:
    """One bucket, one pair of keys."""

    bucket: str = "box"
    key: str = "AKIATEST"
    secret: str = "a-secret-access-key"
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    broken: bool = False
    url: str = ""

    def environment(self) -> dict[str, str]:
        """Return what a client's environment says of it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(request.method)
        if self.broken:
            return web.Response(status=503)
        if not self._is_signed(request):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        bucket, _, name = request.path.lstrip("/").partition("/")
        if bucket != self.bucket:
            return web.Response(status=404, text="<Error><Code>NoSuchBucket</Code></Error>")
        if request.method == "PUT":
            self.objects[name] = body
            return web.Response(headers={"ETag": '"1"'})
        if request.method == "GET" and name in self.objects:
            modified = "Wed, 25 Nov 2026 18:00:00 GMT"
            headers = {"ETag": '"1"', "Last-Modified": modified}
            return web.Response(body=self.objects[name], headers=headers)
        if request.method == "POST" and "delete" in request.query:
            keys: list[str] = re.findall(r"<Key>([^<]+)</Key>", body.decode())
            for key in keys:
                self.objects.pop(key, None)
            done = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            answer = f"<DeleteResult>{done}</DeleteResult>"
            return web.Response(text=answer, content_type="text/xml")
        return web.Response(status=404)

    def _is_signed(self, request: web.Request) -> bool:
        found = _CREDENTIAL.fullmatch(request.headers.get("Authorization", ""))
        if found is None or found[1] != self.key:
            return False
        day, region, signed = found[2], found[3], found[4].split(";")
        headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in signed)
        canonical = "\n".join(
            [
                request.method,
                request.rel_url.raw_path,
                "&".join(f"{name}={value}" for name, value in sorted(request.query.items())),
                headers,
                ";".join(signed),
                request.headers["x-amz-content-sha256"],
            ]
        )
        scope = f"{day}/{region}/s3/aws4_request"
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                request.headers["x-amz-date"],
                scope,
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{self.secret}".encode()
        for part in (day, region, "s3", "aws4_request", text):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(key.hex(), found[5])


@asynccontextmanager
async def running_s3() -> AsyncGenerator[FakeS3]:
    """Serve on a free loopback port until the block ends."""
    fake = FakeS3()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", fake.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
