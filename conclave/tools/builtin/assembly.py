"""All built-in tools, made of what they stand on."""

from __future__ import annotations

from conclave.ports.files import OutputFiles
from conclave.ports.secrets import SecretReferences
from conclave.ports.tasks import ProgressDesk
from conclave.ports.tools import Sandbox
from conclave.ports.urls import WebClient
from conclave.ports.workspaces import Workspaces
from conclave.tools.builtin.files import FileTools
from conclave.tools.builtin.git import GitTools
from conclave.tools.builtin.http import HttpTools, SecretHosts
from conclave.tools.builtin.outputs import OutputTools
from conclave.tools.builtin.places import Places, SandboxRules
from conclave.tools.builtin.search import SearchTools
from conclave.tools.builtin.shell import ShellTools
from conclave.tools.builtin.tasks import TaskTools
from conclave.tools.toolbox import ToolRegistry


def default_toolbox(
    *,
    workspaces: Workspaces,
    sandbox: Sandbox,
    rules: SandboxRules,
    web: WebClient,
    references: SecretReferences,
    secret_hosts: SecretHosts,
    progress: ProgressDesk,
    outputs: OutputFiles,
) -> ToolRegistry:
    """Return the tools of this product."""
    places = Places(workspaces, rules)
    return ToolRegistry(
        [
            *FileTools(places).tools(),
            *SearchTools(places, sandbox).tools(),
            *ShellTools(places, sandbox).tools(),
            *GitTools(places).tools(),
            *OutputTools(places, outputs).tools(),
            *HttpTools(web, references, secret_hosts).tools(),
            *TaskTools(progress).tools(),
        ]
    )
