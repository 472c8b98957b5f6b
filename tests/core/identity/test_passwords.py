"""Hashes, the rules of new passwords, and the list of common ones."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from types import SimpleNamespace

import argon2
import pytest

from conclave.identity.common_passwords import CommonPasswords
from conclave.identity.errors import HashingBusy, PasswordReused, WeakPassword
from conclave.identity.password_rules import PasswordRules
from conclave.identity.passwords import Argon2Cost, PasswordHasher
from schema.domain.security import PasswordPolicy
from tests.harness.accounts import CHEAP, PASSWORD
from tests.waiting import until


async def test_the_real_cost_is_that_of_the_standard_for_little_memory():
    hasher = PasswordHasher()
    hashed = await hasher.hash(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY).verify(
        hashed, PASSWORD
    )
    assert await hasher.matches(PASSWORD, hashed)
    assert not await hasher.matches("Wrong-Horse-7!", hashed)
    assert not hasher.is_outdated(hashed)
    assert PasswordHasher(CHEAP).is_outdated(hashed)
    hasher.close()


async def test_nobodys_hash_costs_the_same_and_never_matches(monkeypatch: pytest.MonkeyPatch):
    hasher = PasswordHasher(Argon2Cost(time_cost=2, memory_kib=128, parallelism=1))
    checked: list[str] = []

    def noted(hashed: str, password: bytes) -> bool:
        checked.append(hashed)
        return True

    real = await hasher.hash(PASSWORD)
    monkeypatch.setattr(hasher, "_argon2", SimpleNamespace(verify=noted))
    assert not await hasher.matches(PASSWORD, None)
    assert argon2.extract_parameters(checked[0]) == argon2.extract_parameters(real)
    hasher.close()


async def test_hashing_leaves_the_event_loop_alone_and_bounds_its_queue():
    hasher = PasswordHasher(CHEAP)
    here = threading.get_ident()
    release = threading.Event()
    threads: set[int] = set()

    def slow() -> None:
        threads.add(threading.get_ident())
        release.wait(20)

    waiting = [asyncio.create_task(hasher._run(slow)) for _ in range(64)]
    await until(lambda: hasher._waiting == len(waiting), what="all to wait")
    with pytest.raises(HashingBusy):
        await hasher.hash(PASSWORD)
    release.set()
    await asyncio.gather(*waiting)
    assert here not in threads
    assert len(threads) <= 4
    assert await hasher.matches(PASSWORD, await hasher.hash(PASSWORD))
    hasher.close()


async def test_no_password_is_hashed_or_checked_on_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    hasher = PasswordHasher(CHEAP)
    threads: list[int] = []

    def noted(*_: object) -> str:
        threads.append(threading.get_ident())
        return "$"

    monkeypatch.setattr(hasher, "_argon2", SimpleNamespace(hash=noted, verify=noted))
    await hasher.hash(PASSWORD)
    await hasher.matches(PASSWORD, "$")
    await hasher.matches(PASSWORD, None)
    assert len(threads) == 3
    assert threading.get_ident() not in threads
    hasher.close()


async def test_a_password_is_the_same_however_its_letters_are_composed():
    hasher = PasswordHasher(CHEAP)
    hashed = await hasher.hash(unicodedata.normalize("NFC", "Pässwörter-7!"))
    assert await hasher.matches(unicodedata.normalize("NFD", "Pässwörter-7!"), hashed)
    assert not await hasher.matches("Passworter-7!", hashed)
    hasher.close()


@pytest.mark.parametrize("hashed", ["", "x", "$argon2id$", "$2b$12$" + "x" * 53])
async def test_what_is_no_hash_of_ours_matches_nothing(hashed: str):
    hasher = PasswordHasher(CHEAP)
    assert not await hasher.matches("", hashed)
    hasher.close()


@pytest.mark.parametrize(
    "password",
    ["password", "PASSWORD", "Password123!", "123password!!", "P@ssw0rd2024!", "p455w0rd",
     "Dr4g0n!!!!!!", "$unshine2024", "L3tM31n.....", "qwerty", "123456789", "iloveyou!!!!"],
)  # fmt: skip
async def test_common_passwords_are_known_in_disguise(password: str):
    assert await CommonPasswords().contains(password)


@pytest.mark.parametrize(
    "password", [PASSWORD, "xK9$mP2!vQ7#", "Sup3r-Secret-Pass!", "A1!A1!A1!A1!zz", "Ab!39485739201"]
)
async def test_other_passwords_are_not(password: str):
    assert not await CommonPasswords().contains(password)


async def test_the_rules_follow_the_policy():
    hasher = PasswordHasher(CHEAP)
    rules = PasswordRules(hasher)
    lax = PasswordPolicy(
        min_length=8,
        require_uppercase=False,
        require_lowercase=False,
        require_numbers=False,
        require_special=False,
    )
    assert await rules.accept("tolerably", lax, field="password", email="ada@example.org")
    strict = PasswordPolicy(min_length=20)
    with pytest.raises(WeakPassword) as refused:
        await rules.accept(PASSWORD, strict, field="password", email="ada@example.org")
    assert refused.value.flaws == ["needs at least 20 characters"]
    with pytest.raises(WeakPassword, match="at most 128"):
        await rules.accept("Aa1!" * 40, lax, field="password", email="ada@example.org")
    # A short local part is in too many words to count.
    assert await rules.accept(
        "Adamant-Horse-7!", PasswordPolicy(), field="password", email="ada@example.org"
    )
    hasher.close()


async def test_only_as_many_earlier_passwords_count_as_the_policy_says():
    hasher = PasswordHasher(CHEAP)
    rules = PasswordRules(hasher)
    earlier = [await hasher.hash(f"Battery-Staple-{n}?") for n in range(3)]

    async def accept(password: str, count: int) -> str:
        policy = PasswordPolicy(history_count=count)
        return await rules.accept(
            password, policy, field="password", email="ada@example.org", earlier=earlier
        )

    with pytest.raises(PasswordReused):
        await accept("Battery-Staple-1?", 2)
    assert await accept("Battery-Staple-2?", 2)
    assert await accept("Battery-Staple-0?", 0)
    hasher.close()
