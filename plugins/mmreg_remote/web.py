"""Web servers: how long they may take, and where they may lead to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from mmreg.errors import TableError

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 30.0
SILENT_SECONDS = 60.0
"""How long a server may say nothing in the midst of a file; there is no limit to all of it, as files may be large."""
PORTS = {"http": 80, "https": 443}


def web_options(allowed: tuple[str, ...]) -> dict[str, Any]:
    """What fsspec's file system of the web is made with.

    Args:
        allowed: addresses below which, beside the host that was asked, a redirect may lead.

    Raises:
        ImportError: aiohttp is not installed.
    """
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
    # Proxies and ~/.netrc are the environment's.
    return {"get_client": _client, "client_kwargs": {"timeout": timeout, "trust_env": True, "_allowed": allowed}}


async def _client(*, _allowed: tuple[str, ...], **options: Any) -> aiohttp.ClientSession:
    """A session that follows no redirect to where it must not."""
    import aiohttp

    async def check(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
    ) -> None:
        headers = params.response.headers
        asked, target = str(params.url), headers.get("Location") or headers.get("URI", "")  # as aiohttp reads them
        check_redirect(asked, urljoin(asked, target), _allowed)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(check)
    return aiohttp.ClientSession(trace_configs=[trace], **options)


def check_redirect(asked: str, target: str, allowed: tuple[str, ...]) -> None:
    """Refuse to be led to another host, unless it is allowed.

    Args:
        asked: an address.
        target: where its server leads to.
        allowed: addresses below which it may lead.

    Raises:
        TableError: it must not; says where to.
    """
    old, new = urlsplit(asked), urlsplit(target)
    if (new.scheme, new.hostname) in ((old.scheme, old.hostname), ("https", old.hostname)) and (
        _port(new) == _port(old) or (old.scheme, new.scheme) == ("http", "https")
    ):
        return
    if new.scheme not in PORTS:
        raise TableError(
            f"its server leads to {new.scheme}://, which is no place of the web and is never followed; name the "
            "address that the file itself has"
        )
    place = f"{new.scheme}://{new.netloc.rpartition('@')[2].lower()}"
    bare = f"{place}{new.path or '/'}"
    for each in allowed:
        start = each if each.endswith("/") else f"{each}/"
        if "@" not in new.netloc and ".." not in new.path and f"{bare}/".startswith(start):
            return
    raise TableError(
        f"its server leads to another host, {place}, which is not followed; name the file's own address, or allow it "
        f"in the recipe: remote: [{place}/]"
    )


def _port(parts: Any) -> int | None:
    return parts.port or PORTS.get(parts.scheme)
