"""How a built-in tool is defined: its arguments are a class, which is the schema models follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from conclave.errors import ConclaveError, Invalid
from conclave.tools.toolbox import BuiltTool
from schema.domain.tools import Effect, Tool, ToolCategory, ToolOutcome, ToolPlace


class Arguments(BaseModel):
    """What a model fills in. Fields with examples are what the demo provider fills in too."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Given = TypeVar("Given", bound=Arguments)
Answer = str | ToolOutcome
"""A text is the answer of a call that went well."""


class _PlainSchema(GenerateJsonSchema):
    """Without titles, which only repeat names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def define(
    name: str,
    description: str,
    run: Callable[[Given, ToolPlace], Awaitable[Answer]],
    arguments: type[Given],
    *,
    effect: Effect,
    category: ToolCategory,
    timeout_seconds: int,
    is_reading: bool = False,
    is_dangerous: bool = False,
    is_quick: bool = False,
) -> BuiltTool:
    """Return a tool whose failures, where another try cannot help, are answers to the model."""

    async def answered(given: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        try:
            answer = await run(arguments.model_validate(given), place)
        except ValidationError as error:
            return failure(first_flaw(error))
        except ConclaveError as error:
            if error.retryable and effect is not Effect.ONCE:
                raise
            return failure(sentence(error))
        return ToolOutcome(content=answer) if isinstance(answer, str) else answer

    tool = Tool(
        name=name,
        description=description,
        parameters=schema_of(arguments),
        effect=effect,
        category=category,
        is_reading=is_reading,
        is_dangerous=is_dangerous,
        is_quick=is_quick,
        timeout_seconds=timeout_seconds,
    )
    return BuiltTool(tool, answered)


def schema_of(arguments: type[Arguments]) -> dict[str, JsonValue]:
    """Return the JSON Schema of an object with these fields."""
    schema = arguments.model_json_schema(schema_generator=_PlainSchema)
    schema.pop("title", None)
    schema.pop("description", None)
    return cast("dict[str, JsonValue]", schema)


def failure(message: str) -> ToolOutcome:
    """Return an answer that says what went wrong."""
    return ToolOutcome(content=message, is_error=True)


def sentence(error: ConclaveError) -> str:
    """Say what a refusal is about."""
    return f"{error.field}: {error.message}" if isinstance(error, Invalid) else error.message


def first_flaw(error: ValidationError) -> str:
    """Say what does not fit, without the value."""
    flaw = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in flaw["loc"])
    return f"{place}: {flaw['msg']}" if place else flaw["msg"]
