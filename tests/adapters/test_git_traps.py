"""The ways known to make git run something: each is planted, and nothing runs.

Each trap runs a program that leaves a mark. `test_the_traps_work...` shows that plain git does
step into them, so that the others can fail.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from conclave.adapters.git.errors import NotARepository, RemoteRefused
from conclave.errors import ConclaveError, Invalid
from schema.domain.repositories import CommitAuthor
from tests.adapters.checkout import PROTOCOLS, Checkout, hear_nothing
from tests.fakes.git_server import Origin, git


class Trap:
    """A program that leaves a mark when it runs."""

    def __init__(self, directory: Path) -> None:
        self.mark = directory / "it-ran"
        self.program = directory / "trap"
        self.program.write_text(f"#!/bin/sh\ntouch {self.mark}\ncat >/dev/null\nexit 0\n")
        self.program.chmod(0o755)

    @property
    def sprung(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "remote")
    origin.commit({"a": "one\n", ".gitattributes": "* filter=evil diff=evil merge=evil\n"})
    return origin


@pytest.fixture
async def checkout(tmp_path: Path, origin: Origin) -> Checkout:
    checkout = Checkout(tmp_path / "home")
    await checkout.clone(origin.url)
    return checkout


async def everything(checkout: Checkout, origin: Origin) -> None:
    """Do all that is ever done to a repository; refusals are fine, marks are not."""
    repository = checkout.repository
    author = CommitAuthor(name="A", email="a@example.org")
    checkout.write(a="two\n", fresh="1")
    origin.commit({"theirs": "x", "a": "three\n"})
    steps = (
        repository.status,
        repository.diff,
        lambda: repository.stage(["a", "fresh", "sub"]),
        lambda: repository.stage(["a", "fresh"]),
        lambda: repository.diff("a", staged=True),
        lambda: repository.unstage(["a"]),
        lambda: repository.commit("Mine", author),
        lambda: repository.commits(9),
        repository.branches,
        lambda: repository.checkout("other", create=True),
        lambda: repository.checkout("main"),
        repository.pull,
        lambda: repository.stage(["a"]),
        lambda: repository.commit("Mine too", author),
        repository.pull,
        lambda: repository.push(branch="other"),
        repository.push,
        repository.status,
    )
    for step in steps:
        try:
            await step()
        except ConclaveError:
            continue


def plain_git(directory: Path, *arguments: str, **environment: str) -> None:
    # git waits for some programs that answer nothing; by then the trap has sprung.
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["git", "-c", "user.name=T", "-c", "user.email=t@x", *arguments],
            cwd=directory,
            check=False,
            timeout=15,
            capture_output=True,
            input=b"",
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/dev/null",
                "GIT_ALLOW_PROTOCOL": "ext:file",
                **environment,
            },
        )


def test_the_traps_work_on_plain_git(origin: Origin, tmp_path: Path):
    repository = origin.other
    (repository / "a").write_text("changed\n")
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    for number, (setting, command) in enumerate(
        {
            "core.fsmonitor": ("status",),
            "diff.external": ("diff",),
            "filter.evil.clean": ("add", "a"),
            "diff.evil.textconv": ("diff", "HEAD"),
        }.items()
    ):
        place = tmp_path / str(number)
        place.mkdir()
        trap = Trap(place)
        plain_git(repository, "-c", f"{setting}={trap.program}", *command)
        assert trap.sprung, setting
    for number, command in enumerate(
        [
            ("ls-remote", "--upload-pack={}", "."),
            ("ls-remote", "ext::{}"),
            ("-c", "core.hooksPath={}", "commit", "-qam", "x"),
        ]
    ):
        place = tmp_path / f"more-{number}"
        place.mkdir()
        trap = Trap(place)
        (place / "pre-commit").symlink_to(trap.program)
        where = place if "hooksPath" in str(command) else trap.program
        plain_git(repository, *(part.format(where) for part in command))
        assert trap.sprung, command


async def test_hooks_in_the_repository_do_not_run(checkout: Checkout, origin: Origin, trap: Trap):
    hooks = checkout.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in (
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-checkout",
        "post-merge",
        "pre-merge-commit",
        "pre-push",
        "post-index-change",
        "reference-transaction",
        "post-rewrite",
        "fsmonitor-watchman",
    ):
        (hooks / name).symlink_to(trap.program)
    await everything(checkout, origin)
    assert (await checkout.repository.status()).branch is not None
    assert not trap.sprung


REFUSED_SETTINGS = [
    ("core.fsmonitor", "{}"),
    ("core.hooksPath", "{}"),
    ("core.sshCommand", "{}"),
    ("core.pager", "{}"),
    ("core.editor", "{}"),
    ("core.askPass", "{}"),
    ("core.gitProxy", "{}"),
    ("core.worktree", "/"),
    ("core.alternateRefsCommand", "{}"),
    ("diff.external", "{}"),
    ("diff.evil.textconv", "{}"),
    ("diff.evil.command", "{}"),
    ("filter.evil.clean", "{}"),
    ("filter.evil.smudge", "{}"),
    ("filter.evil.process", "{}"),
    ("merge.evil.driver", "{} %A"),
    ("alias.status", "!{}"),
    ("credential.helper", "!{}"),
    ("gpg.program", "{}"),
    ("include.path", "evil"),
    ("includeIf.gitdir:/.path", "evil"),
    ("remote.origin.uploadpack", "{}"),
    ("remote.origin.receivepack", "{}"),
    ("remote.origin.vcs", "ext"),
    ("remote.origin.proxy", "http://127.0.0.1:1"),
    ("remote.origin.pushurl", "ext::{}"),
    ("url.ext::{}.insteadOf", "file://"),
    ("http.proxy", "http://127.0.0.1:1"),
    ("http.sslVerify", "false"),
    ("protocol.ext.allow", "always"),
    ("submodule.x.update", "!{}"),
    ("uploadpack.packObjectsHook", "{}"),
    ("extensions.worktreeConfig", "true"),
    ("trailer.x.command", "{}"),
]


@pytest.mark.parametrize(
    ("key", "value"), REFUSED_SETTINGS, ids=[key for key, _ in REFUSED_SETTINGS]
)
async def test_a_setting_that_is_not_ours_stops_every_operation(
    checkout: Checkout, origin: Origin, trap: Trap, key: str, value: str
):
    await checkout.repository.status()  # what was good before is looked at again
    (checkout.git_dir / "evil").write_text(f"[core]\n\tfsmonitor = {trap.program}\n")
    settings = str(checkout.git_dir / "config")
    git(
        checkout.git_dir,
        "config",
        "--file",
        settings,
        key.format(trap.program),
        value.format(trap.program),
    )
    with pytest.raises(NotARepository, match="is not allowed"):
        await checkout.repository.status()
    await everything(checkout, origin)
    assert not trap.sprung


async def test_attributes_of_a_checkout_name_filters_that_do_not_exist(
    checkout: Checkout, origin: Origin, trap: Trap
):
    assert "filter=evil" in (checkout.tree / ".gitattributes").read_text()
    await everything(checkout, origin)
    assert (await checkout.repository.commits(1))[0].message == "Mine too"
    assert not trap.sprung


async def test_a_repository_within_the_files_is_never_entered(
    checkout: Checkout, origin: Origin, trap: Trap
):
    inner = checkout.tree / "sub"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "f").write_text("x")
    git(inner, "add", "f")
    git(inner, "commit", "-q", "-m", "inner")
    for key in ("core.fsmonitor", "diff.external", "core.sshCommand", "filter.evil.clean"):
        git(inner, "config", key, str(trap.program))
    hooks = inner / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-index-change").symlink_to(trap.program)
    checkout.write(b="1")
    await checkout.repository.stage(["sub", "b"])
    await checkout.repository.commit("With a repository inside")
    (inner / "f").write_text("changed")
    await everything(checkout, origin)
    assert not trap.sprung


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_a_git_entry_among_the_files_is_not_the_repository(
    checkout: Checkout, origin: Origin, tmp_path: Path, trap: Trap, kind: str
):
    evil = tmp_path / "evil"
    git(tmp_path, "init", "-q", str(evil))
    git(evil, "config", "core.fsmonitor", str(trap.program))
    if kind == "file":
        (checkout.tree / ".git").write_text(f"gitdir: {evil}/.git\n")
    else:
        (evil / ".git").rename(checkout.tree / ".git")
    await everything(checkout, origin)
    status = await checkout.repository.status()
    assert status.branch is not None
    assert not [path for path in status.untracked if ".git/" in path or path == ".git"]
    assert not trap.sprung


async def test_nothing_of_our_own_environment_reaches_git(
    checkout: Checkout, origin: Origin, trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    home = tmp_path / "user"
    (home / "git").mkdir(parents=True)
    program = str(trap.program)
    for name in (".gitconfig", "git/config"):
        (home / name).write_text(f"[core]\n\tfsmonitor = {program}\n[alias]\n\tx = !{program}\n")
    for name in (
        "GIT_EXTERNAL_DIFF",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_PAGER",
        "GIT_EDITOR",
        "GIT_ASKPASS",
        "GIT_PROXY_COMMAND",
        "GIT_TRACE2_EVENT",
        "EDITOR",
        "PAGER",
        "SSH_ASKPASS",
    ):
        monkeypatch.setenv(name, program)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor'='{program}'")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(home))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    checkout.write(a="changed\n")
    assert (await checkout.repository.status()).modified == ["a"]
    assert (await checkout.repository.diff()).additions == 1
    assert (await checkout.repository.commits(1))[0].message == "More"
    assert not trap.sprung


@pytest.mark.parametrize(
    "how", ["ext::{}", "--upload-pack={}", "-u{}", "ssh://-oProxyCommand={}/x"]
)
async def test_what_looks_like_an_option_or_a_program_is_only_a_value(
    checkout: Checkout, tmp_path: Path, trap: Trap, how: str
):
    value = how.format(trap.program)
    with pytest.raises(ConclaveError):
        await Checkout(tmp_path / "another").clone(value)
    settings = str(checkout.git_dir / "config")
    git(checkout.git_dir, "config", "--file", settings, "remote.origin.url", value)
    for refused in (checkout.repository.pull(), checkout.repository.push()):
        with pytest.raises(ConclaveError):
            await refused
    for refused in (
        checkout.repository.pull(value),
        checkout.repository.push(value),
        checkout.repository.pull(branch=value),
        checkout.repository.checkout(value),
    ):
        with pytest.raises(Invalid):
            await refused
    assert not trap.sprung


async def test_git_itself_refuses_other_transports_whatever_the_guard_lets_through(
    tmp_path: Path, trap: Trap
):
    checkout = Checkout(tmp_path / "narrow")
    checkout.program._protocols = frozenset({"https"})
    for url in (f"ext::{trap.program}", f"file://{tmp_path}", "http://git.example:1/x"):
        await checkout.repository.init("main")
        output = await checkout.repository._session.ask("ls-remote", "--", url, codes=(128,))
        assert "not allowed" in output.err
    assert "ext" not in PROTOCOLS
    assert not trap.sprung


async def test_submodules_of_a_remote_are_not_fetched(tmp_path: Path, origin: Origin, trap: Trap):
    head = git(origin.other, "rev-parse", "HEAD")
    git(origin.other, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    modules = f'[submodule "sub"]\n\tpath = sub\n\turl = ext::{trap.program}\n'
    (origin.other / ".gitmodules").write_text(modules)
    git(origin.other, "add", ".gitmodules")
    git(origin.other, "commit", "-q", "-m", "Submodule")
    git(origin.other, "push", "-q", "origin", "HEAD")
    checkout = Checkout(tmp_path / "modular")
    assert await checkout.repository.clone(origin.url, branch=None, progress=hear_nothing)
    assert list((checkout.tree / "sub").iterdir()) == []
    await everything(checkout, origin)
    assert not trap.sprung


async def test_a_remotes_links_lead_git_nowhere(tmp_path: Path, origin: Origin):
    outside = tmp_path / "outside"
    outside.mkdir()
    (origin.other / "out").symlink_to(outside)
    origin.commit({"a": "2\n"})
    checkout = Checkout(tmp_path / "linked")
    await checkout.clone(origin.url)
    assert (checkout.tree / "out").is_symlink()
    # The link becomes a directory at the remote: git has to replace it, not to write through it.
    (origin.other / "out").unlink()
    origin.commit({"out/file": "theirs"})
    await checkout.repository.pull()
    assert (checkout.tree / "out" / "file").read_text() == "theirs"
    # And where the files have a link in place of a directory, nothing is written behind it.
    (checkout.tree / "out" / "file").unlink()
    (checkout.tree / "out").rmdir()
    (checkout.tree / "out").symlink_to(outside)
    origin.commit({"out/file": "more", "out/new": "new"})
    with pytest.raises(ConclaveError):
        await checkout.repository.pull()
    await checkout.repository.diff()
    assert list(outside.iterdir()) == []


def made_tree(directory: Path, lines: str) -> str:
    """Store a tree of any names at all."""
    ran = subprocess.run(
        ["git", "mktree"], cwd=directory, input=lines, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("name", [".git", ".GIT", "git~1", ".g\u200cit"])
async def test_a_remote_cannot_bring_its_own_git_directory(
    tmp_path: Path, origin: Origin, trap: Trap, name: str
):
    blob = git(origin.other, "hash-object", "-w", "a")
    evil = made_tree(origin.other, f"100755 blob {blob}\tpost-checkout\n")
    tree = made_tree(origin.other, f"040000 tree {evil}\t{name}\n")
    commit = git(origin.other, "commit-tree", "-m", "evil", tree)
    git(origin.other, "push", "-q", "origin", f"{commit}:refs/heads/evil")
    checkout = Checkout(tmp_path / "evil")
    with pytest.raises(ConclaveError) as refused:
        await checkout.clone(origin.url, "evil")
    assert not isinstance(refused.value, RemoteRefused) or "evil" not in refused.value.message
    assert list(checkout.tree.iterdir()) == []
