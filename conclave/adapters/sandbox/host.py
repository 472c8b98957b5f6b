"""Chooses how commands are confined on this host, by trying each way once, and runs them."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conclave.adapters.sandbox.plan import Backend, Limits, plan
from conclave.adapters.sandbox.runner import run_plan
from conclave.errors import ConclaveError, SandboxRefused
from schema.domain.sandbox import (
    SandboxBackend,
    SandboxCommand,
    SandboxConfig,
    SandboxResult,
    SandboxStatus,
)

UNSANDBOXED_ALLOWED = "allow"
_CONFINED: tuple[SandboxBackend, ...] = ("bubblewrap", "namespaces")
_DEFAULT_LIMITS = Limits()
_BARE = Backend("unsandboxed")


class HostSandbox:
    """Implements `Sandbox`. `hidden` are directories no command sees: the data directory."""

    def __init__(
        self,
        *,
        hidden: Sequence[Path] = (),
        unsandboxed: str | None = None,
        limits: Limits = _DEFAULT_LIMITS,
        backends: Sequence[SandboxBackend] = _CONFINED,
    ) -> None:
        self._hidden = hidden
        self._allows_bare = unsandboxed == UNSANDBOXED_ALLOWED
        self._limits = limits
        self._backends = backends
        self._choosing = asyncio.Lock()
        self._chosen: tuple[Backend | None, SandboxStatus] | None = None

    async def status(self) -> SandboxStatus:
        """Return what is in force here; the first call tries what there is."""
        _, status = await self._choice()
        return status

    async def run(self, command: SandboxCommand, config: SandboxConfig) -> SandboxResult:
        """Run a command; see the protocol."""
        if config.network_enabled:
            raise SandboxRefused(
                "Commands cannot be given a network: nothing here could keep them from this host "
                "and its private networks. Switch network_enabled off."
            )
        backend, status = await self._choice()
        if not config.enabled:
            if not self._allows_bare:
                raise SandboxRefused(
                    "The sandbox is switched off, and commands outside of it are not allowed "
                    "(SANDBOX_UNSANDBOXED)."
                )
            backend = _BARE
        if backend is None:
            raise SandboxRefused(status.reason)
        return await self._run(backend, command, config)

    async def _run(
        self, backend: Backend, command: SandboxCommand, config: SandboxConfig
    ) -> SandboxResult:
        made = await asyncio.to_thread(plan, backend, command, config, self._limits, self._hidden)
        return await run_plan(made, command.stdin, self._limits)

    async def _choice(self) -> tuple[Backend | None, SandboxStatus]:
        async with self._choosing:
            if self._chosen is not None:
                return self._chosen
            choice = await self._choose()
            if choice[0] is not None and choice[0] is not _BARE:
                self._chosen = choice  # what fails today may be installed tomorrow
            return choice

    async def _choose(self) -> tuple[Backend | None, SandboxStatus]:
        failures: list[str] = []
        for name in self._backends:
            backend = await _found(name)
            problem = "it is not installed" if backend is None else await self._problem(backend)
            if backend is not None and problem is None:
                instead = "".join(f" Not {failure}." for failure in failures)
                return backend, SandboxStatus(
                    backend=name,
                    available=True,
                    reason=f"Commands run in {_DESCRIBED[name]}.{instead}",
                )
            failures.append(f"{name}: {problem}")
        because = "; ".join(failures)
        if self._allows_bare:
            reason = f"Commands run WITHOUT a sandbox, as the operator allows. Not {because}."
            return _BARE, SandboxStatus(backend="unsandboxed", available=True, reason=reason)
        reason = f"Commands are refused: no sandbox works on this host ({because})."
        return None, SandboxStatus(backend="none", available=False, reason=reason)

    async def _problem(self, backend: Backend) -> str | None:
        """Try it with a harmless command and say what is wrong with it."""
        with tempfile.TemporaryDirectory(prefix="conclave-sandbox-") as workspace:
            command = SandboxCommand(
                argv=("/bin/sh", "-c", "echo works >probe && cat probe"), workspace=workspace
            )
            try:
                result = await self._run(backend, command, SandboxConfig(timeout_seconds=10))
            except ConclaveError as error:
                return error.message.rstrip(".")
        if result.stdout == "works\n":
            return None
        return (result.stderr or f"a trial ended with {result.exit_code}").strip()[:300]


_DESCRIBED = {
    "bubblewrap": "bubblewrap",
    "namespaces": "namespaces and Landlock of their own",
}


async def _found(name: SandboxBackend) -> Backend | None:
    if sys.platform != "linux":
        return None
    if name != "bubblewrap":
        return Backend(name)
    program = shutil.which("bwrap")
    if program is None:
        return None
    asked = await asyncio.create_subprocess_exec(
        program,
        "--help",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text, _ = await asked.communicate()
    return Backend(name, bwrap=program, disable_userns=b"--disable-userns" in text)
