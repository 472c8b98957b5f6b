"""Git over the network and between repositories: pushes, pulls, guarded remotes, credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conclave.adapters.git.errors import (
    GitConflict,
    NoSuchRef,
    RemoteRefused,
    RemoteUnreachable,
)
from conclave.adapters.git.program import Call
from conclave.adapters.git.remotes import Credential, GuardedRemotes
from conclave.adapters.net.guard import OutgoingGuard
from conclave.errors import ConclaveError, Invalid
from schema.domain.repositories import CommitAuthor
from tests.adapters.checkout import Checkout
from tests.fakes.git_server import HOST, GitServer, Origin, git


async def test_a_push_counts_what_it_sends(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    await checkout.commit(a="2")
    last = await checkout.commit(a="3")
    pushed = await checkout.repository.push()
    assert (pushed.remote, pushed.branch, pushed.count, pushed.head) == ("origin", "main", 2, last)
    assert git(origin.bare, "rev-parse", "main") == last
    assert (await checkout.repository.push()).count == 0
    await checkout.repository.checkout("new", create=True)
    assert (await checkout.repository.push()).count == 0
    assert git(origin.bare, "rev-parse", "new") == last
    for missing in (checkout.repository.push("elsewhere"), checkout.repository.push(branch="no")):
        with pytest.raises(NoSuchRef):
            await missing


async def test_a_rejected_push_says_why(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    theirs = origin.commit({"a": "theirs"})
    await checkout.commit(a="mine")
    with pytest.raises(GitConflict, match=r"rejected.*fetch first"):
        await checkout.repository.push()
    assert git(origin.bare, "rev-parse", "main") == theirs


async def test_a_pull_goes_forward_or_merges(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    origin.commit({"a": "theirs"})
    last = origin.commit({"c": "theirs"})
    pulled = await checkout.repository.pull()
    assert (pulled.count, pulled.head) == (2, last)
    assert (await checkout.repository.pull()).count == 0
    await checkout.commit(mine="mine")
    other = origin.commit({"d": "theirs"})
    merged = await checkout.repository.pull(branch="main")
    assert merged.count == 1
    [newest, *_] = await checkout.repository.commits(1)
    assert (newest.hash, len(newest.parents), newest.parents[1]) == (merged.head, 2, other)
    assert newest.message == "Merge branch 'main' of origin"
    assert (checkout.tree / "d").read_text() == "theirs"


async def test_a_pull_that_conflicts_leaves_everything_as_it_was(
    checkout: Checkout, origin: Origin
):
    await checkout.clone(origin.url)
    origin.commit({"a": "theirs\n", "fine": "x"})
    head = await checkout.commit(a="mine\n")
    checkout.write(loose="untracked", **{"dir/b": "dirty\n"})
    with pytest.raises(GitConflict, match="The pull conflicts in a; nothing was changed"):
        await checkout.repository.pull()
    status = await checkout.repository.status()
    assert (status.head, status.conflicted, status.staged) == (head, [], [])
    assert (status.modified, status.untracked) == (["dir/b"], ["loose"])
    assert (checkout.tree / "a").read_text() == "mine\n"
    assert not (checkout.git_dir / "MERGE_HEAD").exists()


@pytest.mark.parametrize("diverged", [False, True])
async def test_a_pull_over_changes_that_are_not_committed_conflicts(
    checkout: Checkout, origin: Origin, diverged: bool
):
    await checkout.clone(origin.url)
    if diverged:
        await checkout.commit(mine="x")
    origin.commit({"a": "theirs\n", "new": "theirs\n"})
    checkout.write(a="dirty\n", new="mine\n")
    before = await checkout.repository.status()
    with pytest.raises(GitConflict, match="would be overwritten"):
        await checkout.repository.pull()
    after = await checkout.repository.status()
    assert after.model_copy(update={"behind": 0}) == before
    assert ((checkout.tree / "a").read_text(), (checkout.tree / "new").read_text()) == (
        "dirty\n",
        "mine\n",
    )


async def test_a_clone_over_http_goes_to_the_judged_address(checkout: Checkout, origin: Origin):
    with GitServer(origin.bare.parent) as server:
        assert await checkout.clone(server.url()) == "main"
        assert server.requests
        assert (checkout.tree / "a").read_text() == "one\n"
        origin.commit({"a": "2"})
        assert (await checkout.repository.pull()).count == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, RemoteRefused),
        (401, RemoteRefused),
        (403, RemoteRefused),
        (500, RemoteUnreachable),
        (503, RemoteUnreachable),
        (429, RemoteUnreachable),
    ],
)
async def test_whether_another_try_may_help_is_told_apart(
    checkout: Checkout, origin: Origin, status: int, expected: type[ConclaveError]
):
    with GitServer(origin.bare.parent) as server:
        server.fail = [status] * 5
        with pytest.raises(expected) as error:
            await checkout.clone(server.url())
    assert error.value.retryable is (expected is RemoteUnreachable)
    assert str(checkout.home) not in error.value.message


async def test_a_remote_that_is_down_or_unknown_may_come_back(tmp_path: Path):
    with GitServer(tmp_path) as server:
        url = server.url()
    with pytest.raises(RemoteUnreachable):
        await Checkout(tmp_path / "down").clone(url)

    async def no_answer(host: str, port: int) -> list[str]:
        raise OSError

    remotes = GuardedRemotes(OutgoingGuard(resolver=no_answer))
    await remotes.check("https://not-just-now.example/x", field="repository_url")
    with pytest.raises(RemoteUnreachable, match="cannot be resolved"):
        await Checkout(tmp_path / "unknown", remotes).clone("https://not-just-now.example/x")


async def test_a_redirect_is_not_followed(checkout: Checkout, origin: Origin):
    with GitServer(origin.bare.parent) as inner, GitServer(origin.bare.parent) as server:
        server.fail = [302] * 5
        server.location = f"http://127.0.0.1:{inner.port}/origin.git/info/refs"
        with pytest.raises(RemoteRefused):
            await checkout.clone(server.url())
        assert inner.requests == []


async def test_a_token_arrives_by_header(checkout: Checkout, origin: Origin):
    with GitServer(origin.bare.parent) as server:
        header = Credential("x-access-token", "kolibri").header()
        settings = await checkout.remotes.settings(server.url(), field="f")
        extra = (f"http.http://{HOST}:{server.port}/.extraHeader", header)
        call = Call(
            ("ls-remote", "--", server.url()),
            checkout.git_dir,
            checkout.tree,
            config=[*settings, extra],
        )
        assert (await checkout.program.run(call)).code == 0
        assert {shown for _, shown in server.requests} == {header.partition(": ")[2]}


@pytest.mark.parametrize(
    ("name", "email"),
    [
        ("", "a@b"),
        ("A", ""),
        ("A <x>", "a@b"),
        ("A", "a>b"),
        ("A\nB", "a@b"),
        ("A" * 256, "a@b"),
        (" .", "a@b"),
    ],
)
async def test_an_author_that_no_commit_can_name_is_refused(
    checkout: Checkout, name: str, email: str
):
    await checkout.repository.init("main")
    checkout.write(a="1")
    await checkout.repository.stage(["a"])
    with pytest.raises(Invalid):
        await checkout.repository.commit("x", CommitAuthor(name=name, email=email))
    for message in ("", " \n", "x" * 100_001, "a\x00b"):
        with pytest.raises(Invalid):
            await checkout.repository.commit(message)
    assert os.listdir(checkout.tree) == ["a"]
