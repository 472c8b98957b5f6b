"""The catalogue of settings (platform.md, section 9): what there is, its kind and its default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from conclave.configuration.kinds import (
    ApiKey,
    Choice,
    Decimal,
    HostName,
    Kind,
    MailAddress,
    Password,
    Text,
    Truth,
    WebUrl,
    Whole,
)
from schema.domain.providers import ProviderName
from schema.domain.settings import SettingValue

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_PORT = Whole(1, 65535)
_ANY_NUMBER = Whole(-(2**31), 2**31 - 1)
"""For a number whose home knows the range."""


class Home(StrEnum):
    """Who keeps a setting."""

    PLAIN = "plain"
    PROVIDERS = "providers"
    SECURITY = "security"


@dataclass(frozen=True)
class Setting:
    """One entry. `default` holds where neither something is stored nor the environment says."""

    category: str
    key: str
    kind: Kind
    default: SettingValue | None
    description: str
    is_secret: bool = False
    home: Home = Home.PLAIN
    kept_as: str = ""
    """Its name at its home; the full key where that is not said."""

    @property
    def full_key(self) -> str:
        """`category.key`, as clients name it."""
        return f"{self.category}.{self.key}"

    @property
    def name(self) -> str:
        """Its name at its home."""
        return self.kept_as or self.full_key


def _provider_key(provider: ProviderName, label: str) -> Setting:
    return Setting(
        "llm",
        f"{provider.value}_api_key",
        ApiKey(),
        None,
        f"API key of {label}",
        is_secret=True,
        home=Home.PROVIDERS,
        kept_as=f"{provider.value}.api_key",
    )


def _security(key: str, path: str, description: str) -> Setting:
    """A field of /security; its default and its range stand there."""
    return Setting(
        "security", key, _ANY_NUMBER, None, description, home=Home.SECURITY, kept_as=path
    )


LOG_LEVEL = Setting(
    "general",
    "log_level",
    Choice(LOG_LEVELS),
    "INFO",
    "What is logged at least",
    kept_as="application.log_level",
)
MAINTENANCE_MODE = Setting(
    "general", "maintenance_mode", Truth(), False, "Only administrators may write"
)
DEBUG = Setting("application", "debug", Truth(), False, "Shown by GET /settings")
"""Of the gathering dialect alone: not in the platform's list."""

_LLM = (
    Setting(
        "llm",
        "default_provider",
        Choice(tuple(ProviderName), may_be_empty=True),
        None,
        "Provider of agents that name none",
    ),
    Setting("llm", "default_model", Text(), None, "Model of agents that name none"),
    _provider_key(ProviderName.ANTHROPIC, "Anthropic"),
    _provider_key(ProviderName.OPENAI, "OpenAI"),
    _provider_key(ProviderName.DEEPSEEK, "DeepSeek"),
    _provider_key(ProviderName.MISTRAL, "Mistral"),
    _provider_key(ProviderName.GOOGLE, "Google"),
    Setting(
        "llm",
        "ollama_base_url",
        WebUrl(),
        None,
        "Where Ollama answers",
        home=Home.PROVIDERS,
        kept_as="ollama.base_url",
    ),
    Setting("llm", "max_tokens", Whole(1, 1_000_000), 4096, "Most tokens of a reply"),
    Setting("llm", "temperature", Decimal(0, 2), 0.7, "How freely models choose their words"),
)
_EMAIL = (
    Setting("email", "smtp_host", HostName(), None, "Server that takes outgoing mail"),
    Setting("email", "smtp_port", _PORT, 587, "Its port; 465 speaks TLS from the start"),
    Setting("email", "smtp_user", Text(), None, "User at that server"),
    Setting("email", "smtp_password", Password(), None, "Password there", is_secret=True),
    Setting("email", "smtp_from", MailAddress(), None, "Sender of outgoing mail"),
    Setting("email", "imap_host", HostName(), None, "Server that incoming mail is read from"),
    Setting("email", "imap_port", _PORT, 993, "Its port"),
    Setting("email", "imap_user", Text(), None, "User at that server"),
    Setting("email", "imap_password", Password(), None, "Password there", is_secret=True),
)
_SECURITY = (
    _security("jwt_expire_minutes", "session.access_token_minutes", "Life of an access token"),
    Setting(
        "security",
        "require_worker_approval",
        Truth(),
        True,
        "New workers wait for an administrator",
    ),
    _security("max_login_attempts", "lockout.max_attempts", "Failures that lock an account"),
    Setting("security", "sandbox_enabled", Truth(), True, "Commands run in a sandbox"),
    _security(
        "rate_limit_per_minute", "rate_limit.per_user_per_minute", "Requests a minute of a user"
    ),
)
_GENERAL = (
    Setting("general", "max_agents_per_worker", Whole(1, 1000), 5, "Agents a worker takes"),
    Setting("general", "task_timeout_minutes", Whole(1, 10080), 60, "Longest run of a task"),
    Setting("general", "max_retries", Whole(0, 100), 3, "Retries of a task that failed"),
    Setting("general", "auto_assign_tasks", Truth(), True, "New tasks find an agent by themselves"),
    LOG_LEVEL,
    MAINTENANCE_MODE,
)
_NOTIFICATIONS = (
    Setting("notifications", "notify_task_complete", Truth(), True, "Tell of finished tasks"),
    Setting("notifications", "notify_task_failed", Truth(), True, "Tell of failed tasks"),
    Setting("notifications", "notify_worker_offline", Truth(), True, "Tell of lost workers"),
    Setting("notifications", "notify_agent_error", Truth(), True, "Tell of errors of agents"),
    Setting("notifications", "webhook_url", WebUrl(), None, "Where notifications are posted"),
)
_STORAGE = (
    Setting("storage", "max_file_size_mb", Whole(1, 10240), 100, "Largest upload"),
    Setting(
        "storage", "allowed_file_types", Text(4096), "*", "Comma list of types, * for every one"
    ),
    Setting("storage", "auto_cleanup_days", Whole(0, 3650), 0, "Days files are kept, 0 for ever"),
)

LISTED: tuple[Setting, ...] = (*_LLM, *_EMAIL, *_SECURITY, *_GENERAL, *_NOTIFICATIONS, *_STORAGE)
"""What the platform dialect shows, in its order."""
BY_KEY: dict[str, Setting] = {setting.full_key: setting for setting in LISTED}
PLAIN: tuple[Setting, ...] = (*(one for one in LISTED if one.home is Home.PLAIN), DEBUG)
"""What is a row of its own."""
