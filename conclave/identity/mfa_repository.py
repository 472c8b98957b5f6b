"""All SQL on second factors: challenges and backup codes. Secrets stand with the user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.tables.identity import BackupCodeRow, MfaChallengeRow


class MfaRepository:
    """Codes come hashed."""

    async def insert_challenge(
        self, tx: Transaction, jti: str, user_id: int, expires_at: datetime
    ) -> None:
        """Store that a login waits for its second factor."""
        await tx.conn.execute(
            insert(MfaChallengeRow).values(jti=jti, user_id=user_id, expires_at=expires_at)
        )

    async def lock_challenge(
        self, tx: Transaction, jti: str, user_id: int, now: datetime, *, most_failures: int
    ) -> bool:
        """Lock a challenge that can still be met; False where there is none."""
        result = await tx.conn.execute(
            select(MfaChallengeRow.jti)
            .where(
                MfaChallengeRow.jti == jti,
                MfaChallengeRow.user_id == user_id,
                MfaChallengeRow.expires_at > now,
                MfaChallengeRow.used_at.is_(None),
                MfaChallengeRow.failures < most_failures,
            )
            .with_for_update()
        )
        return result.scalar_one_or_none() is not None

    async def count_failure(self, tx: Transaction, jti: str) -> None:
        """Count a wrong code against a challenge."""
        await tx.conn.execute(
            update(MfaChallengeRow)
            .where(MfaChallengeRow.jti == jti)
            .values(failures=MfaChallengeRow.failures + 1)
        )

    async def meet_challenge(self, tx: Transaction, jti: str, now: datetime) -> None:
        """Note that a challenge is over: its token is good for nothing more."""
        await tx.conn.execute(
            update(MfaChallengeRow).where(MfaChallengeRow.jti == jti).values(used_at=now)
        )

    async def drop_challenges(self, tx: Transaction, user_id: int) -> None:
        """Void every login of a user that waits for its second factor."""
        await tx.conn.execute(delete(MfaChallengeRow).where(MfaChallengeRow.user_id == user_id))

    async def replace_backup_codes(
        self, tx: Transaction, user_id: int, hashes: Sequence[str]
    ) -> None:
        """Store a user's backup codes in the place of all earlier ones."""
        await tx.conn.execute(delete(BackupCodeRow).where(BackupCodeRow.user_id == user_id))
        if hashes:
            await tx.conn.execute(
                insert(BackupCodeRow), [{"user_id": user_id, "code_hash": one} for one in hashes]
            )

    async def use_backup_code(
        self, tx: Transaction, user_id: int, code_hash: str, now: datetime
    ) -> bool:
        """Use a backup code up; False where there is none that is unused."""
        result = await tx.conn.execute(
            update(BackupCodeRow)
            .where(
                BackupCodeRow.user_id == user_id,
                BackupCodeRow.code_hash == code_hash,
                BackupCodeRow.used_at.is_(None),
            )
            .values(used_at=now)
            .returning(BackupCodeRow.id)
        )
        return result.scalar_one_or_none() is not None
