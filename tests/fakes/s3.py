"""An S3 server that keeps objects in memory and checks signatures (AWS Signature Version 4)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from aiohttp import web

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)


_MODIFIED, _WHEN = "Wed, 25 Nov 2026 18:00:00 GMT", "2026-11-25T18:00:00.000Z"


@dataclass
class FakeS3:
    """One bucket, one pair of keys."""

    bucket: str = "box"
    key: str = "AKIATEST"
    secret: str = "a-secret-access-key"
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict[str, dict[int, bytes]])
    """Of uploads that are under way."""
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
        if "uploads" in request.query or "uploadId" in request.query:
            return self._multipart(request, name, body)
        if request.method == "PUT":
            if "x-amz-copy-source" in request.headers:
                return self._copied(request.headers["x-amz-copy-source"], name)
            self.objects[name] = body
            return web.Response(headers={"ETag": '"1"'})
        if request.method == "GET" and "list-type" in request.query:
            return self._listed(request.query.get("prefix", ""))
        if request.method in {"GET", "HEAD"} and name in self.objects:
            return self._object(request, self.objects[name])
        if request.method == "DELETE":
            self.objects.pop(name, None)
            return web.Response(status=204)
        if request.method == "POST" and "delete" in request.query:
            keys: list[str] = re.findall(r"<Key>([^<]+)</Key>", body.decode())
            for key in keys:
                self.objects.pop(key, None)
            done = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return _xml("DeleteResult", done)
        return web.Response(status=404)

    def _object(self, request: web.Request, data: bytes) -> web.Response:
        headers = {"ETag": '"1"', "Last-Modified": _MODIFIED}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if found is None:
            headers["Content-Length"] = str(len(data))
            return web.Response(body=data, headers=headers)
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return web.Response(status=206, body=data[first : last + 1], headers=headers)

    def _copied(self, source: str, name: str) -> web.Response:
        copied = unquote(source).lstrip("/").partition("/")[2]
        if copied not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        self.objects[name] = self.objects[copied]
        told = f'<ETag>"1"</ETag><LastModified>{_WHEN}</LastModified>'
        return _xml("CopyObjectResult", told)

    def _listed(self, prefix: str) -> web.Response:
        found = "".join(
            f'<Contents><Key>{key}</Key><LastModified>{_WHEN}</LastModified><ETag>"1"</ETag>'
            f"<Size>{len(data)}</Size></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{found}")

    def _multipart(self, request: web.Request, name: str, body: bytes) -> web.Response:
        """Begin an upload in parts, take one, put them together, or forget them."""
        if request.method == "POST" and "uploads" in request.query:
            upload = f"upload-{len(self.asked)}"
            self.parts[upload] = {}
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        upload = request.query["uploadId"]
        if request.method == "PUT":
            self.parts[upload][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": '"1"'})
        parts = self.parts.pop(upload)
        if request.method == "POST":
            self.objects[name] = b"".join(parts[number] for number in sorted(parts))
            return _xml("CompleteMultipartUploadResult", '<ETag>"1"</ETag>')
        return web.Response(status=204)

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
                "&".join(
                    f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
                    for name, value in sorted(request.query.items())
                ),
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


def _xml(name: str, inside: str) -> web.Response:
    return web.Response(text=f"<{name}>{inside}</{name}>", content_type="text/xml")


@asynccontextmanager
async def running_s3() -> AsyncGenerator[FakeS3]:
    """Serve on a free loopback port until the block ends."""
    fake = FakeS3()
    app = web.Application(client_max_size=64 * 1024 * 1024)
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
