"""A mail server on loopback that speaks just enough SMTP, and remembers what it was told."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from typing import Self


@dataclass
class SmtpServer:
    """Greets, and takes one user's password. `is_silent` accepts connections and says nothing."""

    user: str = "mailer"
    password: str = "the right password"
    tls: ssl.SSLContext | None = None
    is_silent: bool = False
    banner: str = "220 fake.test ESMTP"
    heard: list[str] = field(default_factory=list[str])
    open_connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            if self.is_silent:
                await reader.read()  # until the other side gives up
                return
            await self._say(writer, self.banner)
            while line := (await reader.readline()).decode().strip():
                self.heard.append(line)
                if not await self._answer(line.upper(), line, reader, writer):
                    return
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _answer(
        self, verb: str, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if verb.startswith("EHLO"):
            encrypted = writer.get_extra_info("ssl_object") is not None
            if self.tls is not None and not encrypted:
                await self._say(writer, "250-fake.test", "250-STARTTLS", "250 AUTH PLAIN")
            else:
                await self._say(writer, "250-fake.test", "250 AUTH PLAIN")
        elif verb == "STARTTLS" and self.tls is not None:
            await self._say(writer, "220 go ahead")
            await writer.start_tls(self.tls)
        elif verb.startswith("AUTH PLAIN"):
            await self._say(writer, self._judged(line.rsplit(maxsplit=1)[-1]))
        elif verb == "QUIT":
            await self._say(writer, "221 bye")
            return False
        else:
            await self._say(writer, "502 what?")
        return True

    def _judged(self, credentials: str) -> str:
        _, user, password = base64.b64decode(credentials).decode().split("\0")
        if (user, password) == (self.user, self.password):
            return "235 welcome"
        return f"535 5.7.8 no such password: {password}"  # some servers do tell

    async def _say(self, writer: asyncio.StreamWriter, *lines: str) -> None:
        writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await writer.drain()
