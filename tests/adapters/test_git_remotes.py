"""Where git may be sent, where it is pinned, and what it shows there."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.adapters.git.program import Call, GitProgram
from conclave.adapters.git.remotes import Credential, GuardedRemotes, known_credentials
from conclave.adapters.net.guard import OutgoingGuard
from conclave.errors import UrlRefused
from tests.adapters.test_git import Checkout


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/x/y",
        "ssh://git@github.com/x/y",
        "git@github.com:x/y.git",
        "git://github.com/x/y",
        "file:///etc",
        "/etc/passwd",
        "ext::sh -c id",
        "--upload-pack=id",
        "https://user:secret@github.com/x/y",
        "https://token@github.com/x/y",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/x",
        "https://10.0.0.1/x",
        "https://2130706433/x",
        "https://github.com/x\ny",
        "",
    ],
)
async def test_addresses_that_may_not_be_reached_are_refused_before_git_runs(
    tmp_path: Path, url: str
):
    async def public(host: str, port: int) -> list[str]:
        return [host if host[0].isdigit() or ":" in host else "140.82.121.3"]

    remotes = GuardedRemotes(OutgoingGuard(resolver=public))
    with pytest.raises(UrlRefused) as refused:
        await remotes.check(url, field="repository_url")
    assert refused.value.field == "repository_url"
    assert "secret" not in refused.value.message
    checkout = Checkout(tmp_path / "home", remotes)
    with pytest.raises(UrlRefused):
        await checkout.clone(url)
    assert "origin" not in (checkout.git_dir / "config").read_text()


@pytest.mark.parametrize("url", ["https://github.com./x/y", "https://bücher.example/x"])
async def test_a_host_that_git_would_not_find_pinned_is_refused(url: str):
    """git pins a name as it is written: `github.com.` it would look up by itself."""

    async def public(host: str, port: int) -> list[str]:
        return ["140.82.121.3"]

    remotes = GuardedRemotes(OutgoingGuard(resolver=public))
    for attempt in (remotes.check, remotes.settings):
        with pytest.raises(UrlRefused, match="Write the host"):
            await attempt(url, field="repository_url")
    for plain in ("https://GitHub.com/x/y", "https://xn--bcher-kva.example/x"):
        await remotes.check(plain, field="repository_url")


async def test_an_address_needs_no_pin(tmp_path: Path):
    """git takes no pin for an address in brackets: it would refuse to start."""
    remotes = GuardedRemotes(OutgoingGuard())
    for url in ("https://[2606:4700::1111]/x", "https://140.82.121.3/x"):
        assert list(await remotes.settings(url, field="f")) == []


async def test_a_token_is_shown_to_its_host_alone_and_never_on_a_command_line(tmp_path: Path):
    tokens = known_credentials({"GITHUB_TOKEN": "ghp_kolibri", "OTHER": "x", "GITLAB_TOKEN": ""})
    assert tokens == {"github.com": Credential("x-access-token", "ghp_kolibri")}
    assert "kolibri" not in repr(tokens)

    async def public(host: str, port: int) -> list[str]:
        return ["140.82.121.3"]

    remotes = GuardedRemotes(OutgoingGuard(resolver=public), credentials=tokens)
    shown = await remotes.settings("https://github.com/x/y", field="f")
    pairs = dict(shown)
    assert pairs["http.https://github.com/.extraHeader"].startswith("Authorization: Basic ")
    assert pairs["http.curloptResolve"] == "github.com:443:140.82.121.3"
    for other in ("https://github.com.evil.example/x", "https://github.com:8443/x"):
        assert len(await remotes.settings(other, field="f")) == 1
    config = ("config", "--get-regexp", "extraheader")
    asked = Call(config, tmp_path, tmp_path, config=shown)
    assert "kolibri" not in " ".join(asked.arguments)
    assert "Basic" in (await GitProgram().run(asked)).text
