"""The closed environment of every git process: nothing of ours, of the user's or of the checkout's
makes it run anything.

Settings go by GIT_CONFIG_COUNT: they outrank the repository's own, reach git's children, and a
token among them stands in no command line.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

ConfigPairs = Sequence[tuple[str, str]]

_CLOSED: ConfigPairs = (
    # programs that a repository or a user may name
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.pager", "cat"),
    ("core.editor", "/bin/false"),
    ("core.askPass", "/bin/false"),
    ("core.sshCommand", "/bin/false"),
    ("credential.helper", ""),
    ("gpg.program", "/bin/false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("push.gpgSign", "false"),
    ("log.showSignature", "false"),
    # files that could name them
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    # names that another file system takes for .git
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    # repositories within the tree are nobody's business: git would start itself in them
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("diff.ignoreSubmodules", "all"),
    ("status.submoduleSummary", "false"),
    # the network: only where we said, and no longer than that
    ("http.followRedirects", "false"),
    ("http.proxy", ""),
    ("http.sslVerify", "true"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    ("transfer.credentialsInUrl", "die"),
    ("transfer.bundleURI", "false"),
    # nothing goes on after an operation is over
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    # output that reads the same everywhere
    ("color.ui", "false"),
    ("core.quotePath", "false"),
    ("i18n.logOutputEncoding", "UTF-8"),
    ("diff.noprefix", "false"),
    ("diff.mnemonicPrefix", "false"),
    ("status.renames", "true"),
    ("push.default", "nothing"),
)


def closed_environment(
    protocols: Collection[str], config: ConfigPairs, more: dict[str, str]
) -> dict[str, str]:
    """Return all that a git process sees."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": "/dev/null",
        "XDG_CONFIG_HOME": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_SSH_COMMAND": "/bin/false",
        "GIT_EDITOR": "/bin/false",
        "GIT_SEQUENCE_EDITOR": "/bin/false",
        "GIT_PAGER": "cat",
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)),
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **more,
    }
    pairs = [*_CLOSED, *config]
    environment["GIT_CONFIG_COUNT"] = str(len(pairs))
    for number, (key, value) in enumerate(pairs):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment
