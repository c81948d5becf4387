"""`mmreg serve`: binds, loads the run, and answers until it is told to end."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mmreg.console import Debug, Device, On, Precision, Quiet, RunArgument, note, say
from mmreg.errors import MissingPackageError, OptionError, RunError
from mmreg.registry import engine, serve_elsewhere
from mmreg_serve.limits import Limits

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

DEFAULT = Limits()
SHORTEST_TOKEN = 16
AT_ONCE = 1000
"""Requests that one process has under way; those beyond are refused, or wait where there is something before it."""
REPLICAS = 2


@app.command()
def serve(
    run: RunArgument,
    host: Annotated[str, typer.Option("--host", help="The address to listen at; 0.0.0.0 for any.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="Holds the token that requests must bring as a bearer token."
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1024, help="Of a request's body.")] = DEFAULT.bytes,
    max_rows: Annotated[int, typer.Option("--max-rows", min=1, help="Of a request.")] = DEFAULT.rows,
    max_seconds: Annotated[float, typer.Option("--max-seconds", min=0.1, help="Of a request.")] = DEFAULT.seconds,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Rows, of all requests, that are predicted at a time.")
    ] = DEFAULT.batch_rows,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Rows that may wait.")] = DEFAULT.queue_rows,
    device: Device = "auto",
    precision: Precision = None,
    on: On = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas",
            metavar="N",
            min=1,
            help=f"With --on, how many processes load the run and answer: {REPLICAS} if not given.",
        ),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer requests over HTTP with a run's predictions.

    POST /predict takes rows as JSON or as a form with files; / is a page to try
    it. Requests that come in together are predicted together. With --on ray,
    replicas on one machine or many share the requests.

    Example: mmreg serve run --port 8000
    """
    if replicas is not None and on is None:
        raise OptionError("--replicas says how many processes of an engine answer; name the engine, as by --on ray")
    if on is not None and port == 0:
        raise OptionError("--port 0 finds a port of this machine alone; with --on, name the port")
    chosen = None if on is None else engine(on)
    token = None if token_file is None else read_token(token_file)
    limits = Limits(bytes=max_bytes, rows=max_rows, seconds=max_seconds, batch_rows=batch_size, queue_rows=queue)
    try:
        import python_multipart as python_multipart  # by which FastAPI reads forms
        import uvicorn

        from mmreg_serve.app import create_app, load_app
    except ImportError as error:
        raise MissingPackageError(f"mmreg serve needs {error.name}: pip install 'mmreg[serve]'") from error
    import mmreg

    def begun(url: str) -> None:
        if not quiet:
            say(f"serving {run} at {url} (Ctrl-C ends it)")

    with listening(host, port) as server:
        address, port = server.getsockname()[:2]
        loopback = ipaddress.ip_address(address).is_loopback
        loaded = mmreg.load(run, device, precision)
        hosts = [host, "localhost", "127.0.0.1", "[::1]"] if loopback else None
        if token is None and not loopback:
            note(f"anybody who reaches {address} can ask for predictions; --token-file FILE asks them for a token")
        if chosen is not None:
            server.close()  # it is there to be listened at, and what listens is the engine's
            folder = loaded.folder.resolve()
            del loaded  # which has shown what is wrong with it; each replica has its own
            build = partial(load_app, folder, device, precision, limits, token, hosts)
            service = serve_elsewhere(
                chosen,
                build,
                host=address,
                port=port,
                replicas=replicas or REPLICAS,
                at_once=AT_ONCE,
                seconds=limits.seconds + 5,
                accelerator=device.partition(":")[0] != "cpu",
            )
            wait_until_told(service, begun)
            return
        application = create_app(loaded, limits, token=token, hosts=hosts)
        begun(f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}")
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=AT_ONCE,
            timeout_graceful_shutdown=int(limits.seconds) + 5,
        )
        answer_until_told(uvicorn.Server(config), server)


def answer_until_told(server: Any, listener: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C comes, and then what has been asked by then."""
    # When uvicorn has ended by a signal, it sends it again, to whoever handled it before: to nobody.
    with handled(lambda *_: None):
        server.run(sockets=[listener])


def wait_until_told(service: AbstractContextManager[str], begun: Callable[[str], object]) -> None:
    """Let a service elsewhere answer until SIGTERM or Ctrl-C comes, and then what has been asked by then."""
    told = threading.Event()

    def tell(*_: object) -> None:
        if told.is_set() or not there:
            raise KeyboardInterrupt
        told.set()

    there = False
    with handled(tell), service as url:
        there = True
        begun(url)
        told.wait()


@contextmanager
def handled(handler: Callable[..., None]) -> Iterator[None]:
    """The time in which SIGTERM and Ctrl-C come to a handler."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        RunError: there is no such address, or it is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=2048)
    except OSError as error:
        told = error.strerror or error
        raise RunError(f"cannot listen at {host}, port {port}: {told}; choose another --port or --host") from error


def read_token(path: Path) -> str:
    """The token in a file, without the space around it.

    Raises:
        OptionError: the file cannot be read, or what it holds is short or cannot stand in a header.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise OptionError(f"--token-file {str(path)!r} cannot be read as ASCII text: {error}") from error
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise OptionError(
            f"--token-file {str(path)!r} must hold {SHORTEST_TOKEN} characters or more, without a blank; make one by: "
            f"openssl rand -hex 32 > {path}"
        )
    return token
