"""Which keys sign tokens, and how they are rotated."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from api.app import create_app
from conclave.crypto import new_key
from conclave.identity.errors import InvalidToken, SigningKeyRefused
from conclave.identity.signing import check_signing_keys, signing_keys
from conclave.identity.tokens import TokenSigner, TokenType
from conclave.settings import AuthMode, Settings
from schema.domain.identity import Role

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


def settings(**values: object) -> Settings:
    blank = {"jwt_secret": None, "encryption_key": None, "auth_mode": AuthMode.LOCAL}
    return Settings.model_validate({**blank, **values})


def token(signer: TokenSigner) -> str:
    end = datetime.now(UTC) + timedelta(minutes=1)
    return signer.issue(TokenType.ACCESS, user_id=1, role=Role.ADMIN, session_id=1, expires_at=end)


def signer(**values: object) -> TokenSigner:
    return TokenSigner(signing_keys(settings(**values)))


def holds(reader: TokenSigner, text: str) -> bool:
    try:
        return reader.read(text, TokenType.ACCESS).sub == 1
    except InvalidToken:
        return False


def test_the_first_secret_signs_and_the_first_two_verify():
    old, rotated = signer(jwt_secret=A), signer(jwt_secret=f"{B}, {A}")
    assert holds(rotated, token(old))
    assert holds(signer(jwt_secret=B), token(rotated))
    assert not holds(old, token(rotated))
    assert not holds(signer(jwt_secret=f"{C},{B},{A}"), token(old))


def test_without_a_secret_one_is_derived_from_the_encryption_key():
    old, new = new_key(), new_key()
    assert holds(signer(encryption_key=old), token(signer(encryption_key=old)))
    assert holds(signer(encryption_key=f"{new},{old}"), token(signer(encryption_key=old)))
    assert not holds(signer(encryption_key=new), token(signer(encryption_key=old)))
    derived = signing_keys(settings(encryption_key=old))
    assert derived[0] not in old.encode()
    assert signing_keys(settings(encryption_key=old, jwt_secret=A)) == [A.encode()]


def test_without_any_key_each_process_has_its_own_and_only_locally():
    assert not holds(signer(), token(signer()))
    check_signing_keys(settings())
    with pytest.raises(SigningKeyRefused, match="JWT_SECRET"):
        check_signing_keys(settings(auth_mode=AuthMode.REQUIRED))
    check_signing_keys(settings(auth_mode=AuthMode.REQUIRED, jwt_secret=A))
    check_signing_keys(settings(auth_mode=AuthMode.REQUIRED, encryption_key=new_key()))


async def test_the_api_does_not_start_without_a_key_where_one_is_required():
    app = create_app(settings(auth_mode=AuthMode.REQUIRED))
    with pytest.raises(SigningKeyRefused, match="JWT_SECRET"):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize("secret", ["short", "a" * 31, f"{A},short"])
@pytest.mark.parametrize("mode", [*AuthMode])
def test_a_short_secret_is_refused(secret: str, mode: AuthMode):
    with pytest.raises(SigningKeyRefused, match="32 bytes"):
        check_signing_keys(settings(jwt_secret=secret, auth_mode=mode))
    with pytest.raises(SigningKeyRefused, match="32 bytes"):
        signing_keys(settings(jwt_secret=secret))


def test_a_key_file_is_no_secret():
    pem = "-----BEGIN PUBLIC KEY-----" + "x" * 64 + "-----END PUBLIC KEY-----"
    for keys in ([pem], [A, pem]):
        with pytest.raises(SigningKeyRefused, match="PEM"):
            TokenSigner([key.encode() for key in keys])


def test_clocks_may_differ_a_little_and_no_more():
    key = os.urandom(32)

    def at(seconds: int) -> TokenSigner:
        return TokenSigner([key], lambda: datetime.now(UTC) + timedelta(seconds=seconds))

    assert holds(at(0), token(at(25)))
    assert not holds(at(0), token(at(40)))
    assert not holds(at(61), token(at(0)))  # the end is the end
