from __future__ import annotations

from tests.support.entry_fixtures import (
    api,
    asgi,
    asgi_server,
    clean_environment,
    closed_channels,
    driver,
    entry,
    http,
    no_kill,
    vercel,
    wsgi,
    wsgi_server,
)

__all__ = [
    "api",
    "asgi",
    "asgi_server",
    "clean_environment",
    "closed_channels",
    "driver",
    "entry",
    "http",
    "no_kill",
    "vercel",
    "wsgi",
    "wsgi_server",
]
