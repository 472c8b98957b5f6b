"""The `conclave` command. What a command needs is imported when it runs: children start fast."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import conclave
from conclave.errors import ConclaveError
from conclave.logging import configure_logging
from conclave.loopback import is_loopback
from conclave.settings import Settings, get_settings

if TYPE_CHECKING:
    from conclave.terminal.server import Server

_OWN_PACKAGES = ("schema", "workflows", "activities", "api", "worker")

app = typer.Typer(
    name="conclave",
    help="Teams of LLM agents as durable workflows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
keys_app = typer.Typer(help="The keys of ENCRYPTION_KEY.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
admin_app = typer.Typer(help="Accounts of administrators.", no_args_is_help=True)
app.add_typer(admin_app, name="admin")

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where everything is kept; CONCLAVE_DATA_DIR, else ~/.conclave.", show_default=False
    ),
]


@app.callback()
def check_own_modules() -> None:
    """Teams of LLM agents as durable workflows."""
    root = Path(conclave.__path__[0]).resolve().parent
    for name in _OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or found.parent != root / name:
            raise _refusal(
                f"The module `{name}` on the import path is not Conclave's ({found}). "
                "Install Conclave in an environment of its own."
            )


@app.command()
def up(
    data_dir: DataDir = None,
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API.")] = 8000,
    temporal_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Temporal.")] = 7233,
    ui_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Temporal's UI.")] = 8233,
    auto_ports: Annotated[
        bool, typer.Option("--auto-ports", help="Take free ports where these are in use.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="JSON written once everything answers: addresses and processes."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Set for the API and the workers; repeatable."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show every line the parts log.")
    ] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, Temporal, workers and the API.

    A part that dies is started again. Ctrl-C stops all of it; the next start goes on where
    this one stopped.
    """
    from conclave.runtime.ready_file import discard_if_dead

    if ready_file is not None:
        discard_if_dead(ready_file)  # before the slow imports: scripts wait for this file

    from conclave.runtime.plan import Ports, UpOptions, parse_assignments
    from conclave.runtime.supervisor import up as run_stack

    with _refusing():
        options = UpOptions(
            data_dir=_data_dir(data_dir),
            ports=Ports(api=api_port, temporal=temporal_port, ui=ui_port),
            auto_ports=auto_ports,
            workers=workers,
            ready_file=ready_file.absolute() if ready_file else None,
            environment=parse_assignments(env or []),
            verbose=verbose,
        )
        asyncio.run(run_stack(options))


@app.command()
def api() -> None:
    """Run the API alone, against DATABASE_URL and TEMPORAL_ADDRESS, on API_HOST and API_PORT."""
    from api.security import InsecureBind, check_bind
    from conclave.identity.errors import SigningKeyRefused
    from conclave.identity.signing import check_signing_keys

    settings = _settings()
    try:
        check_bind(settings)
        check_signing_keys(settings)
    except (InsecureBind, SigningKeyRefused) as error:
        raise _refusal(str(error)) from None
    configure_logging(settings.log_level, settings.log_format)
    from api.main import serve

    serve(settings)


@app.command()
def worker() -> None:
    """Run one worker alone, against DATABASE_URL and TEMPORAL_ADDRESS."""
    settings = _settings()
    configure_logging(settings.log_level, settings.log_format)
    import uvloop

    from worker.main import run

    uvloop.run(run(settings))


@app.command()
def migrate() -> None:
    """Bring DATABASE_URL to this build's schema, and Temporal to its search attributes.

    Waits a while for a TEMPORAL_ADDRESS that is set and fails when it stays silent; without one
    the default address is tried once.
    """
    from sqlalchemy.exc import OperationalError

    from conclave.runtime import migrations
    from conclave.runtime.temporal import register_search_attributes, until_serving

    settings = _settings()
    address, namespace = settings.temporal_address, settings.temporal_namespace
    named = "TEMPORAL_ADDRESS" in os.environ

    async def register() -> None:
        if not await until_serving(address, namespace, seconds=30 if named else 0):
            typer.echo(f"Temporal: {address} does not answer for {namespace}.", err=True)
            raise typer.Exit(1 if named else 0)
        added = await register_search_attributes(address, namespace)
        typer.echo(f"Temporal: registered {', '.join(added) or 'before'}.")

    with _refusing():
        try:
            migrations.upgrade(settings.database_url)
        except OperationalError as error:
            raise _refusal(f"Database: {str(error.orig).strip()}") from None
        typer.echo("Database: current.")
        asyncio.run(register())


@app.command()
def token(data_dir: DataDir = None) -> None:
    """Print the gateway token of this installation, alone on the last line."""
    from conclave.runtime import files
    from conclave.runtime.plan import Layout

    with _refusing():
        layout = Layout(_data_dir(data_dir))
        files.make_directories(layout)
        typer.echo(files.installation_secrets(layout)[files.GATEWAY_TOKEN])


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Look for what would keep Conclave from running; exits with 1 if something would."""
    from conclave.runtime.doctor import examine

    findings = asyncio.run(examine(_settings(), _data_dir(data_dir)))
    for finding in findings:
        mark = {True: "ok  ", False: "FAIL", None: "note"}[finding.good]
        typer.echo(f"{mark}  {finding.subject}: {finding.detail}")
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


Url = Annotated[
    str, typer.Option(envvar="CONCLAVE_URL", help="The API of a running `conclave up`.")
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="CONCLAVE_TOKEN",
        help="Else this installation's, where the API is on this machine.",
        show_default=False,
    ),
]
_DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="Send this, print the answer and leave.")
    ] = None,
    chat_id: Annotated[
        str | None, typer.Option("--chat", metavar="ID", help="Go on with it.")
    ] = None,
    agent: Annotated[int | None, typer.Option(metavar="ID", help="Whom to talk to.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="The model profile.")] = None,
    project: Annotated[int | None, typer.Option(metavar="ID", help="Where tools work.")] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Show answers when they are complete.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With MESSAGE: allow the tools it asks for, else denied.")
    ] = False,
    url: Url = _DEFAULT_URL,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Chat with an agent: watch it think and act, and say yes or no to what it wants to do.

    With MESSAGE, or something piped in, one turn is run; exits with 1 where it went wrong.
    """
    from conclave.terminal.chat import ChatOptions
    from conclave.terminal.chat import chat as run_chat

    with _refusing():
        options = ChatOptions(
            chat_id=chat_id,
            agent_id=agent,
            profile=profile,
            project_id=project,
            stream=not no_stream,
            message=_message(message),
            allows_tools=yes,
        )
        raise typer.Exit(asyncio.run(run_chat(_server(url, token, data_dir), options)))


@app.command()
def approve(
    approval_id: Annotated[int | None, typer.Argument(metavar="ID")] = None,
    verdict: Annotated[
        bool | None, typer.Option("--yes/--no", help="Decide without asking.", show_default=False)
    ] = None,
    reason: Annotated[str | None, typer.Option(help="With --no: told to the agent.")] = None,
    note: Annotated[str | None, typer.Option(help="With --yes: kept with the decision.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Decide all that waits.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking until Ctrl-C.")] = False,
    url: Url = _DEFAULT_URL,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List what waits for a yes, anywhere in the product, and decide it.

    Exits with 1 where something could not be decided.
    """
    from conclave.terminal.approve import ApproveOptions
    from conclave.terminal.approve import approve as run_approve

    with _refusing():
        options = ApproveOptions(approval_id, verdict, reason, note, every, watch)
        raise typer.Exit(asyncio.run(run_approve(_server(url, token, data_dir), options)))


def _message(words: list[str] | None) -> str | None:
    """Return what is to be sent without a person, None where one sits at the terminal."""
    typed = " ".join(words or [])
    return typed or (None if sys.stdin.isatty() else sys.stdin.read())


def _server(url: str, token: str | None, data_dir: Path | None) -> Server:
    """Return the API to speak to. This installation's token is for this machine, or if named."""
    from conclave.runtime.files import GATEWAY_TOKEN, stored_secrets
    from conclave.runtime.plan import Layout
    from conclave.terminal.errors import TokenMissing
    from conclave.terminal.server import Server, check_address

    host = check_address(url)
    if not token and (data_dir is not None or is_loopback(host)):
        token = stored_secrets(Layout(_data_dir(data_dir))).get(GATEWAY_TOKEN)
    if not token:
        raise TokenMissing("No token: set CONCLAVE_TOKEN, or name the --data-dir of `conclave up`")
    return Server(url=url, token=token)


@audit_app.command("verify")
def verify_audit(
    data_dir: DataDir = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="HASH@SEAL",
            help="A seal that was noted before and must still be there: repeat what `verify` said.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compute every seal of the audit log again; exits with 1 where something does not fit.

    Looks at DATABASE_URL; at the embedded database where that is not set or --data-dir is given.
    """
    from conclave.runtime import audit_command

    with _refusing():
        found = audit_command.verify(_settings(), _embedded(data_dir), expect=expect)
        for line in audit_command.report(found):
            typer.echo(line)
        if found.broken is not None:
            raise _refusal(f"BROKEN: {found.broken.message}")
        typer.echo("Nothing was altered.")


@keys_app.command("rotate")
def rotate_keys(data_dir: DataDir = None) -> None:
    """Make a new key and seal everything that is stored with it, while the product runs.

    With ENCRYPTION_KEY in the environment no key is made: everything is sealed with the first.
    """
    from conclave.runtime import keys_command

    with _refusing():
        if not keys_command.rotate(_settings(), _data_dir(data_dir), typer.echo):
            raise typer.Exit(1)


@keys_app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """Show the keys by their ids, which one writes, and how many rows each still seals."""
    from conclave.runtime import keys_command

    with _refusing():
        keys_command.show(_settings(), _data_dir(data_dir), typer.echo)


@keys_app.command("retire")
def retire_keys(
    data_dir: DataDir = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take them out; without it they stay.")
    ] = False,
) -> None:
    """Take the keys that seal no row any more out of secrets.env."""
    from conclave.runtime import keys_command

    with _refusing():
        if not keys_command.retire(_settings(), _data_dir(data_dir), typer.echo, really=yes):
            raise typer.Exit(1)


Email = Annotated[str, typer.Option(help="The address to sign in with.", show_default=False)]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@admin_app.command("create")
def create_admin(
    email: Email,
    full_name: Annotated[
        str | None, typer.Option(help="Else what stands before the @.", show_default=False)
    ] = None,
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Make an administrator, asking for the password.

    Looks at DATABASE_URL; at the embedded database of a running `conclave up` where that is not
    set or --data-dir is given.
    """
    from conclave.runtime import admin_command

    password = _read_password(from_stdin=password_stdin)
    with _refusing():
        user = admin_command.create(_settings(), _embedded(data_dir), email, full_name, password)
    typer.echo(f"Administrator {user.email} was made.")


@admin_app.command("reset-password")
def reset_password(
    email: Email,
    disable_mfa: Annotated[
        bool, typer.Option("--disable-mfa", help="Turn the second factor off as well.")
    ] = False,
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Give somebody who is locked out a new password; sessions end and lockouts are lifted.

    Looks at DATABASE_URL; at the embedded database of a running `conclave up` where that is not
    set or --data-dir is given.
    """
    from conclave.runtime import admin_command

    password = _read_password(from_stdin=password_stdin)
    with _refusing():
        user = admin_command.reset_password(
            _settings(), _embedded(data_dir), email, password, disable_mfa=disable_mfa
        )
    typer.echo(f"{user.email} has a new password.")


def _read_password(*, from_stdin: bool) -> str:
    """Ask twice at a terminal; else, or where told so, read one line."""
    if from_stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _embedded(data_dir: Path | None) -> Path | None:
    """Return the data directory whose database is meant, None for DATABASE_URL's."""
    if data_dir is None and "DATABASE_URL" in os.environ:
        return None
    return _data_dir(data_dir)


def _settings() -> Settings:
    """Return the environment's settings, refusing values that do not fit by their names."""
    from pydantic import ValidationError

    try:
        return get_settings()
    except ValidationError as error:
        lines = [
            f"{str(item['loc'][0]).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise _refusal("\n".join(lines)) from None


def _data_dir(given: Path | None) -> Path:
    if given is None:
        given = Path(os.environ.get("CONCLAVE_DATA_DIR", "~/.conclave"))
    return given.expanduser().resolve()


def _refusal(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)


@contextlib.contextmanager
def _refusing() -> Generator[None]:
    """Say what went wrong in a sentence; a traceback helps nobody here."""
    try:
        yield
    except ConclaveError as error:
        raise _refusal(error.message) from error
    except OSError as error:
        raise _refusal(str(error)) from error


def main() -> None:
    """Run a command and end the process with its status.

    Once Temporal's SDK is loaded the interpreter is left without being taken down: threads of
    the SDK may still let go of Python objects then, and Python aborts (SIGABRT) where they do.
    """
    try:
        app()
    except SystemExit as ended:
        if "temporalio.bridge.temporal_sdk_bridge" not in sys.modules:
            raise
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
