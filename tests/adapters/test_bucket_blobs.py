"""Bytes of files in a bucket: whole or not there, and never whole in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conclave.adapters.store.blobs import UnknownStore, blob_store
from conclave.adapters.store.bucket import BucketBlobs
from conclave.errors import TooLarge, Unavailable
from conclave.settings import Settings
from tests.fakes.s3 import FakeS3, running_s3

SMALL = b"hello"
LARGE = os.urandom(21 * 1024 * 1024)


@pytest.fixture
async def s3() -> AsyncIterator[FakeS3]:
    async with running_s3() as fake:
        yield fake


@pytest.fixture
def blobs(s3: FakeS3) -> BucketBlobs:
    return BucketBlobs("box", s3.environment())


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(blobs: BucketBlobs, sha256: str, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in blobs.read(sha256, start, stop)])


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_what_is_kept_is_what_came(s3: FakeS3, blobs: BucketBlobs, content: bytes):
    staged = await blobs.stage(pieces(content), limit=len(content))
    digest = hashlib.sha256(content).hexdigest()
    assert (staged.sha256, staged.size_bytes) == (digest, len(content))
    assert await blobs.size(digest) is None
    await blobs.keep(staged)
    assert s3.objects == {f"blobs/{digest[:2]}/{digest}": content}
    assert s3.parts == {}
    assert await blobs.size(digest) == len(content)
    assert await read(blobs, digest, 0, len(content)) == content
    if content:
        assert await read(blobs, digest, 2, 4) == content[2:4]
    assert [names async for names in blobs.names()] == [[digest]]
    await blobs.delete(digest)
    await blobs.delete(digest)
    assert s3.objects == {}
    assert await blobs.size(digest) is None


async def test_what_is_too_large_or_cut_is_not_there(s3: FakeS3, blobs: BucketBlobs):
    async def cut() -> AsyncIterator[bytes]:
        yield SMALL
        raise ConnectionError("the client is gone")

    with pytest.raises(TooLarge):
        await blobs.stage(pieces(LARGE), limit=1024)
    with pytest.raises(ConnectionError):
        await blobs.stage(cut(), limit=1024)
    assert s3.objects == {}


async def test_what_is_not_wanted_goes(s3: FakeS3, blobs: BucketBlobs):
    staged = await blobs.stage(pieces(SMALL), limit=100)
    await blobs.discard(staged)
    await blobs.discard(staged)
    assert s3.objects == {}
    s3.objects["incoming/forgotten"] = SMALL
    assert await blobs.sweep() in {0, 1}  # by the day on which the fake says it was made


async def test_a_store_that_is_away_or_refuses_says_so_without_its_words(s3: FakeS3):
    refused = BucketBlobs("box", s3.environment() | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    for store in (refused, BucketBlobs("box", {})):
        with pytest.raises(Unavailable) as error:
            await store.stage(pieces(SMALL), limit=100)
        assert "wrong" not in error.value.message
    with pytest.raises(Unavailable):
        await BucketBlobs("other", s3.environment()).stage(pieces(SMALL), limit=100)


def test_a_store_of_no_known_kind_is_refused_at_the_start(tmp_path: Path):
    for url in ("https://example.org/box", "file:relative", "s3:"):
        with pytest.raises(ValueError, match="must start with"):
            Settings(object_store_url=url)
        with pytest.raises(UnknownStore):
            blob_store(url, tmp_path, {})
