"""Addresses of files elsewhere, such as https://host/a.png or s3://bucket/a.png: what is one, and what is beside it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mmreg.errors import TableError
from mmreg.messages import shown_address

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
"""How a place begins that a plugin reads."""
SECRET = re.compile(
    r"(^|[-_])(signature|sig|token|password|secret|credential|(access|api)?key|awsaccesskeyid)$", re.IGNORECASE
)
"""How the names of parameters end that give whoever has the address a right."""
OWNED = {"hf": 3}
"""How many parts of an address say whose it is; else one, the host or bucket: hf://datasets/USER/NAME."""
WEB = ("http", "https")


def is_address(text: str) -> bool:
    """Whether a text begins as an address does."""
    return "://" in text and SCHEME.match(text) is not None


def scheme_of(address: str) -> str:
    """An address's scheme, in lower case."""
    return address.partition("://")[0].lower()


def check_address(address: str, *, parameters: bool = False) -> None:
    """Refuse an address that holds a right of somebody, or that programs read in different ways.

    Args:
        address: the address.
        parameters: whether it may have those that look like a right, as a signed one of a cell has.

    Raises:
        TableError: says what is wrong, and shows nothing secret.
    """
    told = shown_address(address)
    try:
        urlsplit(address)
    except ValueError as error:
        raise TableError(f"{told!r} is no address: {error}") from error
    host = address.partition("://")[2].partition("/")[0].partition("?")[0]
    if "@" in host:
        raise TableError(
            f"{told} holds a user's name or password; leave it out: credentials are read from the environment alone"
        )
    if re.search(r"[\s\\\x00-\x1f\x7f]", address if scheme_of(address) in WEB else host):
        raise TableError(f"{told!r} is no address: it holds a blank (write %20), a backslash or a control character")
    if ".." in unquote(_path(address)).split("/"):
        raise TableError(f"{told} leads upwards (..); write where it leads to")
    if not parameters and scheme_of(address) in WEB:
        secret = next((name for name, _ in parse_qsl(urlsplit(address).query, True) if SECRET.search(name)), None)
        if secret is not None:
            raise TableError(
                f"{told} holds a credential ({secret}), which would be written into recipes and runs; leave it out: "
                "credentials are read from the environment alone. Or fetch the file, and name your copy"
            )


def checked_table(text: str) -> str:
    """What names a table, as it is.

    Raises:
        TableError: it is an address of the web that holds a right of somebody.
    """
    if is_address(text) and scheme_of(text) in WEB:
        check_address(text)
    return text


def checked_prefix(text: str) -> str:
    """An address below which files may be fetched, as it is.

    Raises:
        TableError: it is none, or holds a right of somebody.
    """
    if not is_address(text) or not text.partition("://")[2].strip("/"):
        raise TableError(
            "must begin with a scheme and a host or bucket, such as s3://bucket/ or https://host/folder/; "
            f"found {shown_address(text)!r}"
        )
    check_address(text)
    return text


def place_of(address: str) -> str:
    """What belongs to whom an address belongs to: its host, bucket, or data set, with a slash at the end."""
    scheme = scheme_of(address)
    parts = address.partition("://")[2].partition("?")[0].partition("#")[0].split("/")
    count = OWNED.get(scheme, 1)
    return "/".join([f"{scheme}://{parts[0].lower() if scheme in WEB else parts[0]}", *parts[1:count]]) + "/"


def is_within(address: str, places: Iterable[str]) -> bool:
    """Whether an address, which was checked, is in one of these places or below."""
    scheme, path = scheme_of(address), _path(address)
    host = place_of(address) if scheme in WEB else f"{scheme}://"
    whole = host + (path if scheme in WEB else address.partition("://")[2])
    for place in places:
        if scheme_of(place) != scheme:
            continue
        start = place_of(place) + _path(place) if scheme in WEB else f"{scheme}://{place.partition('://')[2]}"
        if whole == start or whole.startswith(start if start.endswith("/") else start + "/"):
            return True
    return False


def beside(base: str, name: str) -> str:
    """The address of a file that a relative path names, beside another address.

    Raises:
        TableError: the path is absolute, or leads out of the host or bucket.
    """
    path = posixpath.normpath(name.replace("\\", "/"))
    place, folder = place_of(base), posixpath.dirname(_path(base))
    if path.startswith("/"):
        raise TableError(f"{name} is an absolute path, which a table from elsewhere cannot name")
    web = scheme_of(base) in WEB
    own = "" if web else base.partition("://")[2].partition("/")[0] + "/"
    joined = posixpath.normpath(posixpath.join("/", folder, quote(path, safe="/~") if web else path))
    depth = folder.strip("/").count("/") + bool(folder.strip("/"))
    if path.split("/").count("..") > depth:
        raise TableError(f"{name} leads out of {place}")
    return (place if web else f"{scheme_of(base)}://{own}") + joined.lstrip("/")


def _path(address: str) -> str:
    """What comes behind the host or bucket, without a slash before it and parameters behind it."""
    rest = address.partition("://")[2]
    if scheme_of(address) in WEB:
        rest = rest.partition("#")[0].partition("?")[0]
    return rest.partition("/")[2]
