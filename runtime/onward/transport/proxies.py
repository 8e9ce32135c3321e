"""Which proxy the environment names for a host."""

from __future__ import annotations


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy's URL for `scheme` and `host` from the environment, or None."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if not proxies or proxy_bypass(host):
        return None
    return proxies.get(scheme)
