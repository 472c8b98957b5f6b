"""Whether a mail server would take mail: connect, EHLO, STARTTLS, AUTH, QUIT, and no message."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from contextlib import suppress

from conclave.errors import Unavailable
from conclave.loopback import is_loopback
from schema.domain.mail import MailSettings

TLS_FROM_THE_START = 465
SOCKET_SECONDS = 2.0
"""Of one read or write; the whole is bounded by who asks."""


class SmtpProbe:
    """A `MailProbe`. `tls` is for tests; certificates are verified by default."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    async def check(self, mail: MailSettings) -> None:
        """Raise `Unavailable`. Nothing that the server says is passed on: it may echo a secret."""
        session = _Session(mail, self._tls or ssl.create_default_context())
        try:
            await asyncio.to_thread(session.run)
        except asyncio.CancelledError:
            session.cut()
            raise


class _Session:
    """One conversation, in a thread; `cut` ends it from another."""

    def __init__(self, mail: MailSettings, tls: ssl.SSLContext) -> None:
        self._mail = mail
        self._tls = tls
        self._smtp: smtplib.SMTP | None = None
        self._is_cut = False

    def run(self) -> None:
        reason = self._reason()
        if reason is not None:
            raise Unavailable(reason)

    def cut(self) -> None:
        self._is_cut = True
        sock = self._smtp.sock if self._smtp is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _reason(self) -> str | None:
        """Return why the server cannot be used, None where it can."""
        try:
            self._converse()
        except smtplib.SMTPAuthenticationError as error:
            return f"The mail server refused the user or the password ({error.smtp_code})."
        except smtplib.SMTPNotSupportedError:
            return "The mail server offers no way to log in."
        except smtplib.SMTPResponseException as error:
            return f"The mail server answered {error.smtp_code}."
        except smtplib.SMTPException as error:
            return f"The mail server did not speak SMTP as expected ({type(error).__name__})."
        except ssl.SSLError as error:
            return f"TLS with the mail server failed ({error.reason})."
        except TimeoutError:
            return "The mail server did not answer in time."
        except OSError as error:
            return f"The mail server cannot be reached ({error.strerror or type(error).__name__})."
        except UnicodeError:
            return "The host, user or password holds characters that SMTP cannot carry."
        return None

    def _converse(self) -> None:
        smtp = self._smtp = self._client()
        try:
            code, _ = smtp.connect(self._mail.host, self._mail.port)
            if code != 220:
                raise Unavailable(f"The mail server answered {code}.")
            if self._is_cut:
                return
            smtp.ehlo_or_helo_if_needed()
            is_private = isinstance(smtp, smtplib.SMTP_SSL) or is_loopback(self._mail.host)
            if not isinstance(smtp, smtplib.SMTP_SSL) and smtp.has_extn("starttls"):
                smtp.starttls(context=self._tls)
                smtp.ehlo()
                is_private = True
            if self._mail.user is not None:
                if not is_private:
                    raise Unavailable("The mail server offers no TLS: no password is sent to it.")
                smtp.login(self._mail.user, self._mail.password or "")
            smtp.quit()
        finally:
            smtp.close()

    def _client(self) -> smtplib.SMTP:
        name = socket.gethostname()
        if self._mail.port == TLS_FROM_THE_START:
            smtp = smtplib.SMTP_SSL(timeout=SOCKET_SECONDS, local_hostname=name, context=self._tls)
        else:
            smtp = smtplib.SMTP(timeout=SOCKET_SECONDS, local_hostname=name)
        # What its constructor would set, which also connects: there the socket cannot be cut.
        smtp._host = self._mail.host  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] -- the name that TLS verifies
        return smtp
