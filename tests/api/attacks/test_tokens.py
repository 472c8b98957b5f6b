"""Attacks on tokens: forged, altered, expired, of another kind, stolen, replayed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from conclave.identity.errors import InvalidToken
from conclave.identity.signing import signing_keys
from conclave.identity.tokens import TokenSigner, TokenType
from tests.harness.accounts import OTHER_PASSWORD, PASSWORD, Accounts, Person

ADA, BOB = "ada@example.org", "bob@example.org"


class FromNow(int):
    """Seconds from the moment the test runs."""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def sealed(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """A token as an attacker would write it, without a library's scruples."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


async def refused(accounts: Accounts, token: str) -> bool:
    answer = await accounts.get("/auth/me", token)
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 401


@pytest.fixture
def key(accounts: Accounts) -> bytes:
    return signing_keys(accounts.settings)[0]


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("signature", ["", "x", "kept"])
async def test_unsigned_tokens_open_nothing(accounts: Accounts, alg: str | None, signature: str):
    ada = await accounts.person(ADA)
    _, body, real = ada.access.split(".")
    last = real if signature == "kept" else signature
    forged = f"{b64(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{body}.{last}"
    assert await refused(accounts, forged)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("alg", ["HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA"])
async def test_only_one_algorithm_is_known(accounts: Accounts, key: bytes, alg: str):
    ada = await accounts.person(ADA)
    forged = sealed({"alg": alg, "typ": "JWT"}, claims_of(ada.access), key)
    assert await refused(accounts, forged)
    if alg.startswith("HS"):
        assert await refused(accounts, jwt.encode(claims_of(ada.access), key, algorithm=alg))


async def test_keys_of_another_algorithm_are_not_taken_for_ours(accounts: Accounts):
    """RS256 signed by the attacker, and HS256 with a public key as its secret."""
    ada = await accounts.person(ADA)
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    claims = claims_of(ada.access)
    assert await refused(accounts, jwt.encode(claims, pem, algorithm="RS256"))
    assert await refused(accounts, sealed({"alg": "HS256", "typ": "JWT"}, claims, public))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "' UNION SELECT ''; --"},
        {"jku": "http://127.0.0.1/keys.json"},
        {"x5u": "http://127.0.0.1/cert.pem"},
        {"jwk": {"kty": "oct", "k": ""}},
        {"kid": 7},
        {"crit": ["exp"]},
    ],
)
async def test_headers_name_no_key(accounts: Accounts, header: dict[str, Any]):
    ada = await accounts.person(ADA)
    for guessed in (b"", b"secret", b"\x00" * 32):
        forged = sealed({"alg": "HS256", "typ": "JWT", **header}, claims_of(ada.access), guessed)
        assert await refused(accounts, forged)


async def test_altered_tokens_open_nothing(accounts: Accounts):
    await accounts.person(ADA)
    bob = await accounts.person(BOB)
    head, _, signature = bob.access.split(".")
    for change in ({"sub": "1"}, {"role": "admin"}, {"sid": 1}, {"exp": 2**40}):
        body = b64(json.dumps({**claims_of(bob.access), **change}).encode())
        assert await refused(accounts, f"{head}.{body}.{signature}")
    assert await refused(accounts, bob.access[:-4] + "AAAA")


@pytest.mark.parametrize(
    "junk",
    ["", ".", "..", "a.b.c", "null", "x" * 5000, "🔑.🔑.🔑", "eyJhbGciOiJIUzI1NiJ9..",
     f"{b64(b'[' * 1500)}.e30.x", f"{b64(b'{}')}.{b64(b'{}')}.{b64(b'{}')}"],
)  # fmt: skip
def test_junk_is_no_token(junk: str):
    with pytest.raises(InvalidToken):
        TokenSigner([b"k" * 32]).read(junk, TokenType.ACCESS)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": FromNow(-1)},
        {"exp": FromNow(0)},
        {"iat": FromNow(+60)},
        {"iss": "somebody"},
        {"aud": "something"},
        {"aud": ["something"]},
        {"type": "refresh"},
        {"type": "mfa"},
        {"type": "admin"},
        {"sub": "0"},
        {"sub": "1 OR 1=1"},
        {"sub": 1},
        {"sub": str(2**63)},
        {"sub": "99"},
        {"sid": 99},
        {"sid": 2},
        {"sid": "x"},
        {"sid": -1},
        {"role": "root"},
        {"exp": "never"},
        {"exp": float("inf")},
    ],
)
async def test_claims_that_do_not_hold_open_nothing_even_when_signed(
    accounts: Accounts, key: bytes, change: dict[str, Any]
):
    ada = await accounts.person(ADA)
    await accounts.person(BOB)  # session 2 is another's
    now = int(time.time())
    claims = claims_of(ada.access)
    for name, value in change.items():
        claims[name] = now + value if isinstance(value, FromNow) else value
    assert await refused(accounts, sealed({"alg": "HS256", "typ": "JWT"}, claims, key))


@pytest.mark.parametrize(
    "missing", ["sub", "role", "type", "iat", "exp", "iss", "aud", "jti", "sid"]
)
async def test_every_claim_is_demanded(accounts: Accounts, key: bytes, missing: str):
    ada = await accounts.person(ADA)
    claims = claims_of(ada.access)
    assert not await refused(accounts, sealed({"alg": "HS256", "typ": "JWT"}, claims, key))
    del claims[missing]
    assert await refused(accounts, sealed({"alg": "HS256", "typ": "JWT"}, claims, key))


async def test_the_role_in_a_token_gives_no_rights(accounts: Accounts, key: bytes):
    await accounts.person(ADA)
    bob = await accounts.person(BOB)
    claims = {**claims_of(bob.access), "role": "admin"}
    me = await accounts.get("/auth/me", jwt.encode(claims, key, algorithm="HS256"))
    assert me.json()["role"] == "operator"


async def test_each_type_opens_its_own_door_only(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    temp = await accounts.challenge(ada)
    for token in (ada.refresh, temp):
        assert await refused(accounts, token)
        assert accounts.identity.authenticator.recognise(token) is None
    for token in (ada.access, temp):
        assert (await accounts.post("/auth/refresh", refresh_token=token)).status_code == 401
    for token in (ada.access, ada.refresh):
        answer = await accounts.post(
            "/auth/mfa/verify", temp_token=token, totp_code=accounts.code(ada)
        )
        assert answer.status_code == 401


async def test_requests_are_recognised_by_signed_tokens_only(accounts: Accounts):
    ada = await accounts.person(ADA)
    recognise = accounts.identity.authenticator.recognise
    assert recognise(ada.access) == f"user:{ada.id}"
    assert recognise(ada.access[:-4] + "AAAA") is None
    accounts.clock.move(hours=1)
    assert recognise(ada.access) is None


# Stolen tokens


async def test_a_refresh_token_used_again_later_ends_the_whole_session(accounts: Accounts):
    ada = await accounts.person(ADA)
    thief = (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).json()
    other = await accounts.again(ada)
    accounts.clock.move(seconds=11)
    reused = await accounts.post("/auth/refresh", refresh_token=ada.refresh)
    assert (reused.status_code, reused.json()["error_code"]) == (401, "AUTH_010")
    assert not await accounts.is_signed_in(thief["access_token"])
    again = await accounts.post("/auth/refresh", refresh_token=thief["refresh_token"])
    assert again.status_code == 401
    assert await accounts.is_signed_in(other.access)
    told = await accounts.audited("refresh_reuse")
    assert [entry["actor_id"] for entry in told] == [ada.id]


async def test_reuse_is_told_once_and_says_no_more_than_any_refusal(accounts: Accounts):
    ada = await accounts.person(ADA)
    await accounts.post("/auth/refresh", refresh_token=ada.refresh)
    accounts.clock.move(seconds=11)
    answers = await asyncio.gather(
        *(accounts.post("/auth/refresh", refresh_token=ada.refresh) for _ in range(4)),
        accounts.post("/auth/refresh", refresh_token="junk"),
    )
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert len(await accounts.audited("refresh_reuse")) == 1


async def test_refreshing_after_logging_out_brings_nothing_back(accounts: Accounts):
    ada = await accounts.person(ADA)
    await accounts.post("/auth/logout", ada.access)
    assert (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).status_code == 401
    assert not await accounts.is_signed_in(ada.access)


async def test_a_login_never_continues_a_session_that_is_given(accounts: Accounts):
    ada = await accounts.person(ADA)
    fixed = await accounts.post(
        "/auth/login",
        ada.access,
        email=ADA,
        password=PASSWORD,
        sid=claims_of(ada.access)["sid"],
        session_id=claims_of(ada.access)["sid"],
        refresh_token=ada.refresh,
    )
    mine = claims_of(fixed.json()["access_token"])
    assert mine["sid"] != claims_of(ada.access)["sid"]
    assert mine["jti"] != claims_of(ada.access)["jti"]


async def test_tokens_of_before_a_password_change_are_dead(accounts: Accounts):
    ada = await accounts.person(ADA)
    stolen = await accounts.again(ada)
    await accounts.post(
        "/auth/change-password",
        ada.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    assert await refused(accounts, stolen.access)
    assert (await accounts.post("/auth/refresh", refresh_token=stolen.refresh)).status_code == 401


async def test_a_half_finished_login_does_not_outlive_a_password_change(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    temp = await accounts.challenge(ada)
    changed = await accounts.post(
        "/auth/change-password",
        ada.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    assert changed.status_code == 200
    late = await accounts.post("/auth/mfa/verify", temp_token=temp, totp_code=accounts.code(ada))
    assert late.status_code == 401


async def test_a_login_under_way_does_not_survive_a_password_change(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
):
    """The old password is checked, then replaced before the session begins."""
    ada = await accounts.person(ADA)
    hasher = accounts.identity.hasher
    check = hasher.matches

    async def changed_meanwhile(password: str, hashed: str | None) -> bool:
        fits = await check(password, hashed)
        monkeypatch.setattr(hasher, "matches", check)
        await _change_password(accounts, ada)
        return fits

    monkeypatch.setattr(hasher, "matches", changed_meanwhile)
    assert (await accounts.login(ADA)).status_code == 401


async def _change_password(accounts: Accounts, person: Person) -> None:
    answer = await accounts.post(
        "/auth/change-password",
        person.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    assert answer.status_code == 200
