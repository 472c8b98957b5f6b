"""The kinds of settings: how the text on the wire is read, and how a value is shown again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from schema.domain.settings import SettingValue

_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNCLEAN_URL = re.compile(r"[\x00-\x20\x7f\\]")
_ADDRESS = re.compile(r"[^\s@<>\"]{1,64}@[^\s@<>\"]{1,253}")
_NAMED_ADDRESS = re.compile(rf"[^<>@]{{0,200}}<{_ADDRESS.pattern}>")
_API_KEY = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")


class Kind(Protocol):
    """Reads a text. Raises ValueError with a sentence that names what it must be."""

    def parse(self, text: str) -> SettingValue | None:
        """Return the value; None where an empty text lets the default hold again."""
        ...


def show(value: SettingValue | None) -> str:
    """Return a value as the text on the wire."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Truth:
    """True or false, in the usual words."""

    def parse(self, text: str) -> bool:
        """Read a word."""
        value = _WORDS.get(text.strip().lower())
        if value is None:
            raise ValueError("must be true or false")
        return value


@dataclass(frozen=True)
class Whole:
    """A whole number in a range."""

    least: int
    most: int

    def parse(self, text: str) -> int:
        """Read digits."""
        plain = text.strip()
        if not _WHOLE.fullmatch(plain) or not self.least <= int(plain) <= self.most:
            raise ValueError(f"must be a whole number from {self.least} to {self.most}")
        return int(plain)


@dataclass(frozen=True)
class Decimal:
    """A number in a range."""

    least: float
    most: float

    def parse(self, text: str) -> float:
        """Read a plain decimal number."""
        plain = text.strip()
        if not _DECIMAL.fullmatch(plain) or not self.least <= float(plain) <= self.most:
            raise ValueError(f"must be a number from {self.least:g} to {self.most:g}")
        return float(plain)


@dataclass(frozen=True)
class Choice:
    """One of a few words, whatever their case."""

    options: tuple[str, ...]
    may_be_empty: bool = False

    def parse(self, text: str) -> str | None:
        """Return the option as it is spelt here."""
        plain = text.strip().lower()
        if not plain and self.may_be_empty:
            return None
        for option in self.options:
            if option.lower() == plain:
                return option
        raise ValueError(f"must be one of {', '.join(self.options)}")


@dataclass(frozen=True)
class Text:
    """One line."""

    most: int = 255

    def parse(self, text: str) -> str | None:
        """Refuse line breaks and other controls: some of these end up in protocols."""
        plain = text.strip()
        if len(plain) > self.most or _CONTROL.search(plain):
            raise ValueError(f"must be one line of at most {self.most} characters")
        return plain or None


@dataclass(frozen=True)
class Password:
    """A secret as it is typed, blanks included."""

    most: int = 1024

    def parse(self, text: str) -> str | None:
        """Refuse controls only."""
        if len(text) > self.most or _CONTROL.search(text):
            raise ValueError(f"must be one line of at most {self.most} characters")
        return text or None


@dataclass(frozen=True)
class ApiKey:
    """A provider's key: it stands in an HTTP header."""

    most: int = 4096

    def parse(self, text: str) -> str | None:
        """Take visible ASCII."""
        plain = text.strip()
        if plain and (len(plain) > self.most or not _API_KEY.fullmatch(plain)):
            raise ValueError(f"must be at most {self.most} visible ASCII characters without blanks")
        return plain or None


@dataclass(frozen=True)
class HostName:
    """A host name or an address."""

    def parse(self, text: str) -> str | None:
        """Refuse what no host is called."""
        plain = text.strip()
        if plain and not _HOST.fullmatch(plain):
            raise ValueError("must be a host name or an address, without a scheme")
        return plain or None


@dataclass(frozen=True)
class MailAddress:
    """`name@host`, also as `Some Name <name@host>`."""

    def parse(self, text: str) -> str | None:
        """Look at its form only."""
        plain = text.strip()
        if not plain:
            return None
        if _CONTROL.search(plain) or not (
            _ADDRESS.fullmatch(plain) or _NAMED_ADDRESS.fullmatch(plain)
        ):
            raise ValueError("must be a mail address")
        return plain


@dataclass(frozen=True)
class WebUrl:
    """An http or https URL; where it leads is judged when it is called."""

    most: int = 2048

    def parse(self, text: str) -> str | None:
        """Look at its form only."""
        plain = text.strip()
        if not plain:
            return None
        refused = ValueError("must be an http:// or https:// URL without a user or password")
        if len(plain) > self.most or _UNCLEAN_URL.search(plain):
            raise refused
        try:
            parts = urlsplit(plain)
            parts.port  # noqa: B018 -- raises where the port is none
        except ValueError:
            raise refused from None
        if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
            raise refused
        if "@" in parts.netloc:
            raise refused
        return plain
