"""`conclave admin`: accounts from the command line."""

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.accounts import OTHER_PASSWORD, PASSWORD, Accounts

_ROOT = Path(__file__).parents[2]


def _admin(database_url: str, *arguments: str, password: str):
    return subprocess.run(
        [sys.executable, "-P", "-m", "conclave.cli", "admin", *arguments],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "DATABASE_URL": database_url},
        check=False,
    )


async def test_an_administrator_is_made_and_can_sign_in(accounts: Accounts):
    url = accounts.settings.database_url
    made = _admin(
        url, "create", "--email", "Root@Corp.local", "--password-stdin", password=PASSWORD
    )
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    signed_in = await accounts.login("root@corp.local")
    me = (await accounts.get("/auth/me", signed_in.json()["access_token"])).json()
    assert (me["role"], me["full_name"]) == ("admin", "root")
    again = _admin(url, "create", "--email", "root@corp.local", password=OTHER_PASSWORD)
    assert (again.returncode, again.stderr.strip()) == (1, "This email is taken")


async def test_a_weak_password_is_refused_and_not_printed(accounts: Accounts):
    refused = _admin(
        accounts.settings.database_url, "create", "--email", "root@corp.local", password="hunter2"
    )
    assert refused.returncode == 1
    assert "12 characters" in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr
    assert await accounts.value("SELECT count(*) FROM users") == 0


async def test_somebody_who_is_locked_out_is_let_in_again(accounts: Accounts):
    ada = await accounts.with_mfa("ada@example.org")
    for _ in range(5):
        await accounts.login(ada.email, "Wrong-Horse-7!")
    reset = _admin(
        accounts.settings.database_url,
        "reset-password",
        "--email",
        ada.email,
        "--disable-mfa",
        password=OTHER_PASSWORD,
    )
    assert reset.returncode == 0, reset.stderr
    assert not await accounts.is_signed_in(ada.access)
    signed_in = await accounts.login(ada.email, OTHER_PASSWORD)
    assert signed_in.json()["token_type"] == "bearer"
    told = (await accounts.audited("password_changed"))[0]
    assert told["actor_type"] == "system"


async def test_nobody_by_that_name_is_told(accounts: Accounts):
    unknown = _admin(
        accounts.settings.database_url,
        "reset-password",
        "--email",
        "x@corp.local",
        password=PASSWORD,
    )
    assert (unknown.returncode, unknown.stderr.strip()) == (1, "User x@corp.local not found")
