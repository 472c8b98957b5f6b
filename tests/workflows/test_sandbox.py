"""The production sandbox refuses what would make a replay decide otherwise."""

from __future__ import annotations

import ast
import importlib
import itertools
import shutil
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError
from temporalio.worker.workflow_sandbox._restrictions import UnintentionalPassthroughError

import workflows
from conclave.crypto import Keyring
from tests.histories.files import DIRECTORY, KEY, load
from worker.sandbox import keep_workflow_files, sandboxed_runner
from workflows.codec import data_converter

SOURCES = Path(workflows.__file__ or "").parent
IN_RUNS = [
    "conversation", "agent_turn", "turn_order", "policies", "visibility", "upkeep", "checkout",
    "approval", "pipeline", "pipeline_order",
]  # fmt: skip
"""The files that run inside workflows; the others belong to clients."""
LOADED_BY = {
    "upkeep": ("upkeep", "UpkeepWorkflow", "upkeep_done-1"),
    "approval": ("approval", "ApprovalWorkflow", "approval_expired-1"),
    "pipeline": ("pipeline", "PipelineWorkflow", "pipeline_retried-1"),
    "pipeline_order": ("pipeline", "PipelineWorkflow", "pipeline_retried-1"),
    "checkout": ("checkout", "CheckoutWorkflow", "checkout_retried-1"),
}
"""The workflow's file and class, and a history of it, for those that no conversation loads."""

_numbers = itertools.count(1)


async def refusal(
    directory: Path, monkeypatch: pytest.MonkeyPatch, module: str, line: str
) -> BaseException | None:
    """Replay on a copy of the workflows that has one more line; return what the sandbox raises."""
    name = f"altered_workflows_{next(_numbers)}"
    copy = directory / name
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.glob("*.py"):
        path.write_text(path.read_text().replace("from workflows", f"from {name}"))
    with (copy / f"{module}.py").open("a") as file:
        file.write(f"\n{line}\n")
    monkeypatch.syspath_prepend(directory)
    file, workflow, history = LOADED_BY.get(
        module, ("conversation", "ConversationWorkflow", "agent_gone-1")
    )
    replayer = Replayer(
        workflows=[getattr(importlib.import_module(f"{name}.{file}"), workflow)],
        workflow_runner=sandboxed_runner(),
        data_converter=data_converter(Keyring.parse(KEY)),
    )
    try:
        replayed = await replayer.replay_workflow(load(DIRECTORY / f"{history}.json"))
    except RuntimeError as error:
        return error.__cause__ or error
    else:
        return replayed.replay_failure
    finally:
        for loaded in [known for known in sys.modules if known.startswith(name)]:
            del sys.modules[loaded]


async def test_an_unaltered_copy_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert await refusal(tmp_path, monkeypatch, "conversation", "MORE = 1") is None


@pytest.mark.parametrize("module", IN_RUNS)
@pytest.mark.parametrize(
    "line",
    [
        "import datetime; STARTED = datetime.datetime.now()",
        "import random; LUCK = random.random()",
    ],
    ids=["clock", "random"],
)
async def test_what_differs_from_run_to_run_is_refused_in_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, line: str
):
    refused = await refusal(tmp_path, monkeypatch, module, line)
    assert isinstance(refused, RestrictedWorkflowAccessError)


@pytest.mark.parametrize("line", ["import structlog", "from conclave import errors"])
async def test_an_import_that_is_not_named_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
):
    refused = await refusal(tmp_path, monkeypatch, "conversation", line)
    assert isinstance(refused, UnintentionalPassthroughError)


@pytest.mark.parametrize("module", IN_RUNS)
def test_every_import_from_outside_is_named(module: str):
    tree = ast.parse((SOURCES / f"{module}.py").read_text())
    own = {*sys.stdlib_module_names, "temporalio", "workflows"}
    assert {found for found in _roots(tree.body)} <= own
    for block in tree.body:
        if isinstance(block, ast.With):
            is_named = "imports_passed_through" in ast.unparse(block.items[0])
            assert ("workflows" in _roots(block.body)) is not is_named


def _roots(body: list[ast.stmt]) -> set[str]:
    """Return the packages that a block imports from."""
    modules = [
        statement.module or "" for statement in body if isinstance(statement, ast.ImportFrom)
    ]
    modules += [
        name.name
        for statement in body
        if isinstance(statement, ast.Import)
        for name in statement.names
    ]
    return {module.partition(".")[0] for module in modules}


def test_workflow_files_are_read_once(monkeypatch: pytest.MonkeyPatch):
    def refuse(loader: SourceFileLoader, path: str) -> bytes:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    keep_workflow_files()
    monkeypatch.setattr(SourceFileLoader, "get_data", refuse)
    before = importlib.import_module("workflows.conversation")
    monkeypatch.setattr(workflows, "conversation", before)
    monkeypatch.delitem(sys.modules, "workflows.conversation")
    assert importlib.import_module("workflows.conversation") is not before
