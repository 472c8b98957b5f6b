"""What turns and conversations used, as statements that are built once."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, case, func, select

from conclave.conversations.parameters import parameter
from schema.tables.conversations import MessageRow
from schema.tables.model_calls import ModelCallRow

_conversation_id = parameter("conversation_id", BigInteger)

USAGE = select(
    func.coalesce(func.sum(MessageRow.tokens_in), 0).label("input_tokens"),
    func.coalesce(func.sum(MessageRow.tokens_out), 0).label("output_tokens"),
    func.coalesce(func.sum(MessageRow.cost_usd), 0).label("cost_usd"),
).where(
    MessageRow.conversation_id == _conversation_id,
    MessageRow.execution == parameter("execution", Integer),
    MessageRow.turn == parameter("turn", Integer),
)

USED_TOKENS = select(
    func.coalesce(
        func.sum(
            case(
                (ModelCallRow.status == "unknown", ModelCallRow.reserved_tokens),
                else_=ModelCallRow.tokens_in + ModelCallRow.tokens_out,
            )
        ),
        0,
    )
).where(ModelCallRow.conversation_id == _conversation_id)
"""The tokens of a conversation's calls; one that was cut may have used all it could."""
