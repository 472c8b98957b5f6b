"""What an outgoing URL is for: it decides which schemes and which addresses may be used."""

from __future__ import annotations

from enum import StrEnum


class UrlPurpose(StrEnum):
    """`web`: tools, MCP, Slack and the like. `webhook`: deliveries, to private ranges too where
    `webhooks.allow_private_addresses` says so. `git`: remotes, over https or ssh."""

    WEB = "web"
    WEBHOOK = "webhook"
    GIT = "git"
