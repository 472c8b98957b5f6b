"""Where a bucket is, and with which credentials: found as Amazon's own tools find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from obstore.store import S3Store

from conclave.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config


def open_bucket(
    bucket: str, environment: Mapping[str, str], *, timeout: str, retries: int
) -> S3Store:
    """Return a bucket; nothing is sent yet. Raises `Unavailable` where credentials are missing."""
    key = environment.get("AWS_ACCESS_KEY_ID", "")
    secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
    token = environment.get("AWS_SESSION_TOKEN", "")
    if not (key and secret):
        raise Unavailable("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set.")
    session: S3Config = {"session_token": token} if token else {}
    return S3Store(
        bucket,
        endpoint=_endpoint(environment),
        region=_region(environment),
        access_key_id=key,
        secret_access_key=secret,
        config=session,
        client_options={"allow_http": True, "timeout": timeout, "connect_timeout": "2s"},
        retry_config={"max_retries": retries},
    )


def _endpoint(environment: Mapping[str, str]) -> str:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if environment.get(name):
            return environment[name].rstrip("/")
    return f"https://s3.{_region(environment)}.amazonaws.com"


def _region(environment: Mapping[str, str]) -> str:
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
