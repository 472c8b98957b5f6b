"""The sandbox's settings: stored, believed for a second, audited."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errors import Invalid
from conclave.tools.sandboxing import SandboxConfigService
from schema.domain.sandbox import SandboxConfig, WorkspaceMode
from tests.core.tools.conftest import HostSandbox


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def entries(db: Database) -> list[dict[str, object]]:
    async with db.transaction() as tx:
        rows = await tx.conn.execute(
            text("SELECT changes FROM audit_entries WHERE action = 'sandbox_updated' ORDER BY id")
        )
        return [row.changes for row in rows]


async def test_what_is_set_holds_here_at_once_and_elsewhere_a_second_later(
    clean_database: Database, sandbox: HostSandbox
):
    clock = Clock()
    here = SandboxConfigService(clean_database, AuditLog(), sandbox, clock=clock)
    elsewhere = SandboxConfigService(clean_database, AuditLog(), sandbox, clock=clock)
    assert await here.get() == await elsewhere.get() == SandboxConfig()
    await here.update({"timeout_seconds": 60})
    after = await here.update({"workspace_mode": "ro", "memory_limit": "1G"})
    assert after == SandboxConfig(
        timeout_seconds=60, workspace_mode=WorkspaceMode.READ_ONLY, memory_limit="1g"
    )
    assert await here.get() == after
    assert await elsewhere.get() == SandboxConfig()
    clock.now += 1
    assert await elsewhere.get() == after
    await here.update({"timeout_seconds": 60})
    assert await entries(clean_database) == [
        {"timeout_seconds": {"before": 30, "after": 60}},
        {
            "memory_limit": {"before": "512m", "after": "1g"},
            "workspace_mode": {"before": "rw", "after": "ro"},
        },
    ]
    assert (await here.status()).available


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"memory_limit": "lots"}, "memory_limit"),
        ({"workspace_mode": "rwx"}, "workspace_mode"),
        ({"enabled": None}, "enabled"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    clean_database: Database, sandbox: HostSandbox, changes: dict[str, object], field: str
):
    service = SandboxConfigService(clean_database, AuditLog(), sandbox)
    with pytest.raises(Invalid) as refused:
        await service.update(changes)  # pyright: ignore[reportArgumentType] -- JSON all the same
    assert refused.value.field == field
    assert await service.get() == SandboxConfig()
    assert await entries(clean_database) == []
