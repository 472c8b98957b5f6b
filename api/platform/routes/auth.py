"""/api/v1/auth: signing in and out, and one's own account."""

from __future__ import annotations

from api.deps import CoreDep, CredentialDep, OptionalPrincipalDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.schemas.auth import (
    ChangePasswordIn,
    DetailOut,
    LoginIn,
    LogoutIn,
    MeOut,
    MfaChallengeOut,
    MfaDisabledOut,
    MfaDisableIn,
    MfaEnabledOut,
    MfaSetupIn,
    MfaSetupOut,
    MfaVerifyIn,
    ProfilePatch,
    RefreshIn,
    RegisterIn,
    TokensOut,
    login_out,
    verified_out,
)
from api.platform.schemas.users import UserOut

router = CheckedRouter(prefix="/api/v1/auth", tags=["Authentication"])


@router.post(
    "/login",
    summary="Sign in",
    responses=documented(400, 401, 403, 413, 422, 423, 503),
)
async def login(core: CoreDep, body: LoginIn) -> TokensOut | MfaChallengeOut:
    """Answer a pair of tokens.

    With a second factor and no `totp_code`: a temporary token for /auth/mfa/verify, good for five
    minutes. Too many failures close the address for a while, whether or not it has an account.
    """
    return login_out(await core.identity.logins.log_in(body.to_command()))


@router.post(
    "/register",
    status_code=201,
    summary="Register",
    responses=documented(400, 403, 409, 413, 422, 503),
)
async def register(core: CoreDep, body: RegisterIn) -> UserOut:
    """Make an account. The very first one becomes the administrator's."""
    return UserOut.from_domain(await core.identity.registration.register(body.to_command()))


@router.post(
    "/refresh",
    summary="Exchange a refresh token",
    responses=documented(400, 401, 413, 422, 503),
)
async def refresh(core: CoreDep, body: RefreshIn) -> TokensOut:
    """Answer the next pair; the token that was sent works no more.

    Sent again it is refused, and after ten seconds its whole session ends.
    """
    return TokensOut.from_domain(await core.identity.sessions.refresh(body.refresh_token))


@router.get("/me", summary="Get my account", responses=documented(401, 403, 404, 503))
async def get_me(core: CoreDep, principal: PrincipalDep) -> MeOut:
    """With what the caller may do; an API key sees its owner's."""
    return MeOut.of(await core.identity.accounts.me(principal), principal)


@router.put(
    "/me",
    summary="Update my account",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 423, 503),
)
async def update_me(core: CoreDep, principal: PrincipalDep, body: ProfilePatch) -> UserOut:
    """Change name or email; what is left out stays. Another email needs `current_password`."""
    user = await core.identity.accounts.update(principal, body.to_command())
    return UserOut.from_domain(user)


@router.post(
    "/change-password",
    summary="Change my password",
    responses=documented(400, 401, 403, 413, 422, 423, 503),
)
async def change_password(
    core: CoreDep, principal: PrincipalDep, body: ChangePasswordIn
) -> DetailOut:
    """End all my other sessions with it."""
    await core.identity.accounts.change_password(
        principal, body.current_password, body.new_password
    )
    return DetailOut(detail="The password was changed")


@router.post(
    "/mfa/setup",
    summary="Begin to set up a second factor",
    responses=documented(400, 401, 403, 409, 413, 422, 423, 503),
)
async def set_up_mfa(
    core: CoreDep, principal: PrincipalDep, body: MfaSetupIn | None = None
) -> MfaSetupOut:
    """Nothing changes until /auth/mfa/verify has had a first code."""
    password = None if body is None else body.password
    return MfaSetupOut.from_domain(await core.identity.second_factor.set_up(principal, password))


@router.post("/verify-mfa", include_in_schema=False)
@router.post(
    "/mfa/verify",
    summary="Verify a code",
    responses=documented(400, 401, 403, 409, 413, 422, 423, 503),
)
async def verify_mfa(
    core: CoreDep, principal: OptionalPrincipalDep, body: MfaVerifyIn, credential: CredentialDep
) -> TokensOut | MfaEnabledOut:
    """With a temporary token, in the body or as Bearer: finish the login it waits in.

    With a session: turn the second factor on, and show its backup codes this once.
    """
    outcome = await core.identity.verify(principal, body.totp_code, body.temp_token, credential)
    return verified_out(outcome)


@router.post(
    "/mfa/disable",
    summary="Turn the second factor off",
    responses=documented(400, 401, 403, 409, 413, 422, 423, 503),
)
async def disable_mfa(core: CoreDep, principal: PrincipalDep, body: MfaDisableIn) -> MfaDisabledOut:
    """By a code of it, or a backup code. Not where the policy requires a second factor: 403."""
    await core.identity.second_factor.disable(principal, body.totp_code, body.password)
    return MfaDisabledOut()


@router.post("/logout", summary="Sign out", responses=documented(400, 401, 403, 413, 422, 503))
async def logout(core: CoreDep, principal: PrincipalDep, body: LogoutIn | None = None) -> DetailOut:
    """End this session, and that of a refresh token; or all of my sessions."""
    asked = body or LogoutIn()
    await core.identity.sessions.log_out(
        principal, asked.refresh_token, all_sessions=asked.all_sessions
    )
    return DetailOut(detail="Signed out")
