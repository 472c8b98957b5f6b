"""What git's complaints mean. Its words are English and stable: LC_ALL is C."""

from __future__ import annotations

import re

from conclave.adapters.git.errors import GitConflict, GitFailed, RemoteRefused, RemoteUnreachable
from conclave.adapters.git.program import Call, Output
from conclave.logging import get_logger

_REASON_LENGTH = 500
_SAID = re.compile(
    r"^(?:fatal|error|remote|hint|warning|CONFLICT|\s*! \[|\s+\S|!\t|Please|Aborting)"
)
_NOISE = re.compile(r"^(?:hint:|remote:\s*$)")
_TEMPORARY = re.compile(
    r"Could not resolve|Failed to connect|Connection (?:timed out|reset|refused)"
    r"|[Oo]peration timed out|early EOF|unexpected disconnect|hung up unexpectedly"
    r"|Empty reply|Recv failure|Send failure|RPC failed|too slow|Timeout|transfer closed"
    r"|returned error: (?:408|429|5\d\d)|invalid index-pack|index-pack failed"
)
_log = get_logger(__name__)


def reason_of(output: Output, call: Call) -> str:
    """Return git's own words in one public sentence: without paths of this machine."""
    lines = [
        " ".join(line.split())
        for line in output.err.splitlines()
        if _SAID.match(line) and not _NOISE.match(line)
    ]
    text = "; ".join(line for line in lines if line) or "git gave no reason"
    for path in (call.git_dir, call.tree, call.git_dir.parent):
        text = text.replace(str(path), "the workspace")
    return text[:_REASON_LENGTH]


def local_conflict(output: Output, call: Call) -> GitConflict:
    """Return a refusal of the work tree, in git's words."""
    return GitConflict(reason_of(output, call))


def remote_failure(output: Output, call: Call) -> RemoteUnreachable | RemoteRefused:
    """Return whether a remote may answer another time."""
    reason = reason_of(output, call)
    if _TEMPORARY.search(output.err):
        return RemoteUnreachable(f"The remote cannot be reached: {reason}", retry_after=5)
    return RemoteRefused(f"The remote refused: {reason}")


def unexpected(output: Output, call: Call) -> GitFailed:
    """Return a failure nobody foresaw."""
    _log.error(
        "git failed", command=call.arguments[0], code=output.code, said=reason_of(output, call)
    )
    return GitFailed(f"git {call.arguments[0]} failed")
