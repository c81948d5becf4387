"""Fetches files by fsspec, several at a time, and keeps copies: a file that has not changed is fetched once."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreg.errors import TableError
from mmreg.files import replacing
from mmreg.messages import byte_size, one_line
from mmreg_remote.braces import expand
from mmreg_remote.systems import file_system

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

AT_A_TIME = 16
"""Files that are fetched at a time; of each no more than a few MB are in memory."""
STAMPS = ("ETag", "Content-MD5", "Digest", "Last-Modified")
"""What a web server says of a file that tells whether it has changed."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""Errors of this machine's disk, not of what is fetched."""
UNREACHABLE = ("ClientConnectorError", "ConnectError", "EndpointConnectionError", "ConnectTimeoutError", "SSLError")
"""What aiohttp, httpx and botocore call the error of a server that cannot be reached; the last one's names it."""
CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
"""What botocore calls those of credentials."""
ENDPOINTS = {"s3": "FSSPEC_S3_ENDPOINT_URL", "gs": "FSSPEC_GS_ENDPOINT_URL", "hf": "HF_ENDPOINT"}
"""By scheme, the environment variable that names another server than that of the company."""
_ADDRESSES: dict[Path, str] = {}
"""Of the copies of several shards, which are read as one table."""
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,12}$")


def fetch(addresses: Sequence[str], *, folder: Path, allowed: Sequence[str], limit: int) -> list[Path | str]:
    """Copies of files.

    Args:
        addresses: all of one scheme. Of shards, one may name several: `https://host/train-{000..009}.tar`.
        folder: where copies are kept. A copy's name is made of the address and of what the place says of the file (its
            ETag, size, time, version), so that a file which has changed gets another copy.
        allowed: where, beside the file's own host, a web server may lead to.
        limit: the most bytes of a file.

    Returns:
        For each address the path of its copy, or why there is none; of several shards one that names all copies.

    Raises:
        TableError: a copy cannot be written, or an address names too many shards.
    """
    system = file_system(addresses[0].partition("://")[0].lower(), allowed)
    if isinstance(system, str):
        return [system] * len(addresses)
    shards = [expand(address) if address.endswith(".tar") else [address] for address in addresses]
    flat = [name for each in shards for name in each]
    with ThreadPoolExecutor(min(AT_A_TIME, len(flat)), thread_name_prefix="mmreg-fetch") as pool:
        copies = pool.map(lambda address: _copy(system, address, folder, limit), flat)
        return [_together(each, list(islice(copies, len(each))), folder) for each in shards]


def address_of(copy: Path) -> str:
    """What a shard is a copy of; a shard of this machine itself."""
    return _ADDRESSES.get(copy, str(copy))


def _together(names: list[str], copies: list[Path | str], folder: Path) -> Path | str:
    """One path that stands for the copies of some addresses, as shards are named; or why there is none."""
    missing = [copy for copy in copies if isinstance(copy, str)]
    if missing or len(copies) == 1:
        return (missing or copies)[0]
    _ADDRESSES.update(zip(map(Path, copies), names, strict=True))
    return folder / f"{{{','.join(Path(copy).relative_to(folder).with_suffix('').as_posix() for copy in copies)}}}.tar"


def _copy(system: AbstractFileSystem, address: str, folder: Path, limit: int) -> Path | str:
    """One file's copy, or why there is none."""
    try:
        facts = system.info(address)
        size = facts.get("size")
        if facts.get("type") == "directory":
            return f"{address} is a folder, not a file"
        if size is not None and size > limit:
            return _too_large(address, limit)
        stamp = _stamp(facts)
        path = _place(folder, address, stamp) if stamp else None
        if path is not None and path.is_file():
            return path
        return _fetched(system, address, folder, path, size, limit)
    except Exception as error:  # of whatever library serves the scheme
        if isinstance(error, OSError) and error.errno in FULL and str(error.filename or "").startswith(str(folder)):
            raise TableError(f"files cannot be fetched into {folder}: {error.strerror}") from error
        return cause(address, error)


def _fetched(
    system: AbstractFileSystem, address: str, folder: Path, path: Path | None, size: int | None, limit: int
) -> Path | str:
    """Fetch a file; where nothing told whether it has changed (path is None), its content gives the copy's name."""
    from fsspec.callbacks import Callback

    class Counted(Callback):  # type: ignore[misc]
        """Stops what is larger than allowed, whatever the server said of its size."""

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > limit:
                raise _TooLargeError

    folder.mkdir(parents=True, exist_ok=True)
    arriving = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        system.get_file(address, os.fspath(arriving), callback=Counted())
        got = arriving.stat().st_size
        if size is not None and got != size:
            return f"{address} was cut: {got:,} bytes of {size:,} came; try again"
        place = path or _place(folder, address, _digest(arriving))
        place.parent.mkdir(exist_ok=True)
        os.utime(arriving, (0, 0))  # the copy's name says all of its version
        with replacing(place) as new:
            arriving.rename(new)
    except _TooLargeError:
        return _too_large(address, limit)
    finally:
        arriving.unlink(missing_ok=True)
    return place


class _TooLargeError(Exception):
    """More bytes came than are allowed."""


def _too_large(address: str, limit: int) -> str:
    return (
        f"{address} is larger than {byte_size(limit)}, the most that is fetched; the environment variable "
        "MMREG_FETCH_LIMIT sets another limit"
    )


def _stamp(facts: dict[str, Any]) -> str:
    """What a place says of a file that changes with it; empty if a web server says nothing of the kind."""
    if "://" in str(facts.get("name", "")):  # of the web, whose other facts say nothing of the content
        told = [f"{name}={facts[name]}" for name in STAMPS if facts.get(name)]
        return f"{facts.get('size')} {told}" if told else ""
    kept = {name: value for name, value in facts.items() if name not in ("name", "StorageClass")}
    return repr(sorted((name, str(value)) for name, value in kept.items()))


def _place(folder: Path, address: str, stamp: str) -> Path:
    """Where a copy is; it keeps the ending, by which some files are told apart."""
    digest = hashlib.blake2b(f"{address}\0{stamp}".encode(errors="surrogatepass"), digest_size=20).hexdigest()
    path = address.partition("?")[0] if address.lower().startswith("http") else address
    ending = _ENDING.search(path.rpartition("/")[2])
    return folder / digest[:2] / f"{digest}{ending[0].lower() if ending else ''}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cause(address: str, error: BaseException) -> str:
    """Why a file cannot be fetched, in words."""
    inner = error
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None and address.lower().startswith("http"):
        inner = error.__cause__  # fsspec says of the web that there is no file, whatever went wrong
    if isinstance(inner, TableError):
        return str(inner)
    kind, scheme = type(inner).__name__, address.partition("://")[0].lower()
    status = _status(inner)
    if isinstance(inner, FileNotFoundError) or status == 404:
        hidden = scheme == "hf" and (status == 404 or inner.__cause__ is not None)  # all of the data set
        return f"there is no {address}{', or it is private: set HF_TOKEN, or hf auth login' if hidden else ''}"
    if isinstance(inner, PermissionError) or status in (401, 403):
        return f"{address} may not be read with the credentials of this environment ({status or one_line(inner)})"
    if isinstance(inner, TimeoutError):
        return f"{address} cannot be fetched: its server does not answer in time"
    if kind == "TooManyRedirects":
        return f"{address} cannot be fetched: its server leads from one address to the next without an end"
    if kind == "ClientPayloadError":
        return f"{address} cannot be fetched: a part of it has come, and then no more; try again"
    if isinstance(inner, ConnectionError) or kind in UNREACHABLE:
        told = f" ({one_line(inner)})" if kind in UNREACHABLE[2:] else ""
        where = f", or set {ENDPOINTS[scheme]}" if scheme in ENDPOINTS else ""
        return (
            f"{address} cannot be fetched: its server cannot be reached; see that it runs, and what it is called"
            f"{where}{told}"
        )
    why = f"the server says {status}" if status else one_line(inner)
    if kind in CREDENTIALS:
        why += (
            "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a public bucket is read without, by "
            "FSSPEC_S3_ANON=true"
        )
    elif "Invalid endpoint" in why:
        why += f"; write {ENDPOINTS['s3']} as https://HOST"
    return f"{address} cannot be fetched: {why}"


def _status(error: BaseException) -> int | None:
    """What a server has answered, as aiohttp, gcsfs and httpx keep it."""
    response = getattr(error, "response", None)
    if hasattr(error, "status"):
        status = error.status
    else:
        status = getattr(response, "status_code", getattr(error, "code", None))
    return status if isinstance(status, int) else None
