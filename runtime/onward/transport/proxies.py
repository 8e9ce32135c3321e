"""Which proxy the environment names for a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy for `scheme` and `host` from the environment, as it stands there, or None."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if not proxies or proxy_bypass(host):
        return None
    return proxies.get(scheme) or proxies.get("all")


def authorization_of(proxy: SplitResult) -> dict[str, str]:
    """The headers that open `proxy`: none, unless its URL has a user and a password."""
    from base64 import b64encode
    from urllib.parse import unquote

    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
