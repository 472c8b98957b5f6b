"""Tools that speak HTTP, past the guard of outgoing URLs and never around it.

A secret of the vault is put in where the request is sent, and only there: the arguments, the
ledger and the model know its reference alone, and what comes back is blanked. Which secret may go
to which host is the operator's to say, or an agent could be talked into sending any of them
anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from conclave.crypto import blank_out
from conclave.errors import ConclaveError, Forbidden
from conclave.ports.secrets import SecretReferences
from conclave.ports.urls import WebClient
from conclave.tools.builtin.definition import Answer, Arguments, define
from conclave.tools.builtin.excerpts import MOST_CHARACTERS
from conclave.tools.toolbox import BuiltTool
from schema.domain.secrets import REFERENCE_PREFIX, referenced_name
from schema.domain.tools import Effect, ToolCategory, ToolOutcome, ToolPlace
from schema.domain.web import WebAnswer, WebRequest

SECONDS = 30.0
_MARGIN = 15
_URL = Field(
    description="An http or https address.",
    min_length=1,
    max_length=4096,
    examples=["https://example.com/"],
)
_OFFSET = Field(
    default=0, ge=0, description="Skip so many characters of the answer, to read a long one on."
)

SecretHosts = Mapping[str, frozenset[str]]
"""The hosts that each secret, by name, may be sent to."""


class HttpGet(Arguments):
    """Of `http_get`."""

    url: str = _URL
    headers: dict[str, str] = Field(
        default_factory=dict, max_length=20, description="Headers; no secrets."
    )
    offset: int = _OFFSET


class HttpRequest(Arguments):
    """Of `http_request`."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "GET"] = "POST"
    url: str = _URL
    headers: dict[str, str] = Field(
        default_factory=dict,
        max_length=20,
        description="Headers. secret://name stands for a secret, as in Bearer secret://name.",
    )
    body: str | None = Field(
        default=None, max_length=500_000, description="The body, such as JSON; set Content-Type."
    )


class SecretNotForHost(Forbidden):
    """The operator has not said that the secret may be sent there."""

    code = "secret_not_for_host"


class HttpTools:
    """`http_get` and `http_request`."""

    def __init__(
        self,
        web: WebClient,
        references: SecretReferences,
        secret_hosts: SecretHosts,
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._web = web
        self._references = references
        self._secret_hosts = secret_hosts
        self._seconds = seconds

    def tools(self) -> list[BuiltTool]:
        """Return them."""
        timeout = int(self._seconds) + _MARGIN
        return [
            define(
                "http_get",
                "Fetch a web page or an API's answer, as text. Private addresses are refused.",
                self.get,
                HttpGet,
                effect=Effect.READ,
                category=ToolCategory.HTTP,
                timeout_seconds=timeout,
            ),
            define(
                "http_request",
                "Send an HTTP request that changes something, or needs a secret. To read, use "
                "http_get.",
                self.request,
                HttpRequest,
                effect=Effect.ONCE,
                category=ToolCategory.HTTP,
                timeout_seconds=timeout,
                is_dangerous=True,
            ),
        ]

    async def get(self, asked: HttpGet, place: ToolPlace) -> Answer:
        """Fetch."""
        if any(REFERENCE_PREFIX in value for value in asked.headers.values()):
            raise SecretNotForHost("http_get sends no secrets: use http_request.")
        answer = await self._web.send(
            WebRequest(url=asked.url, headers=asked.headers), timeout=self._seconds
        )
        return _told(answer, asked.offset, (), "Read on with offset={next}.")

    async def request(self, asked: HttpRequest, place: ToolPlace) -> Answer:
        """Put secrets in, send, and blank them out of what comes back."""
        used: list[str] = []
        headers = {
            name: await self._filled_in(value, asked.url, used)
            for name, value in asked.headers.items()
        }
        try:
            answer = await self._web.send(
                WebRequest(method=asked.method, url=asked.url, headers=headers, body=asked.body),
                timeout=self._seconds,
            )
        except ConclaveError as error:
            error.message = blank_out(error.message, used)
            raise
        return _told(answer, 0, used, "The rest is not shown: ask the server for less.")

    async def _filled_in(self, value: str, url: str, used: list[str]) -> str:
        words = value.split(" ")
        for place, word in enumerate(words):
            name = referenced_name(word)
            if name is not None:
                self._judge(name, url)
                words[place] = await self._references.resolve(word)
                used.append(words[place])
        return " ".join(words)

    def _judge(self, name: str, url: str) -> None:
        """Raise `SecretNotForHost` unless the operator lets this secret go there."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").rstrip(".")
        except ValueError:
            parts, host = urlsplit(""), ""
        if parts.scheme != "https" or host not in self._secret_hosts.get(name, ()):
            raise SecretNotForHost(
                f"The secret {name[:255]!r} may not be sent to {host or 'this address'}: the "
                "operator lists secrets and their hosts (HTTP_TOOL_SECRETS), for https only."
            )


def _told(
    answer: WebAnswer, offset: int, secrets: tuple[str, ...] | list[str], rest: str
) -> Answer:
    head = [f"HTTP {answer.status} {answer.reason}".rstrip(), f"url: {answer.url}"]
    if answer.content_type:
        head.append(f"content-type: {answer.content_type}")
    head += [f"{name}: {value}" for name, value in answer.headers.items()]
    text = answer.text
    if text is None:
        body = f"[{answer.size} bytes that are no text: not shown.]"
    else:
        if answer.is_cut and secrets:
            text = text[: -max(len(secret) for secret in secrets)]  # one may be cut in two there
        text = blank_out(text, secrets)
        body = text[offset : offset + MOST_CHARACTERS]
        end = offset + len(body)
        if end < len(text):
            body += f"\n[Characters {offset} to {end} of {len(text)}. {rest.format(next=end)}]"
        elif answer.is_cut:
            body += f"\n[The answer is longer than the {answer.size} bytes that are read of one.]"
    said = blank_out("\n".join(head), secrets)
    return ToolOutcome(content=f"{said}\n\n{body}".rstrip(), is_error=answer.status >= 400)
