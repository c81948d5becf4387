"""The command listens where it is told to, says what is wrong, and ends only when all is answered."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import forked
import pytest
import typer
from served import as_json, check_same

pytest.importorskip("fastapi", reason="needs mmreg[serve]")
httpx = pytest.importorskip("httpx")

import mmreg_serve.command
from mmreg.errors import OptionError, RunError
from mmreg_serve.command import listening, read_token
from mmreg_serve.plugin import mmreg_commands

SERVE = "from mmreg_serve.command import app; app()"


def test_the_plugin_declares_the_command():
    (command,) = mmreg_commands()
    module, name = command.target.split(":")
    assert (command.name, module) == ("serve", "mmreg_serve.command")
    assert isinstance(getattr(mmreg_serve.command, name), typer.Typer)


def test_only_this_machine_is_answered_unless_another_host_is_named():
    parameters = typer.main.get_command(mmreg_serve.command.app).params
    assert next(each.default for each in parameters if each.name == "host") == "127.0.0.1"


def test_a_port_that_is_taken_is_told():
    with listening("127.0.0.1", 0) as first, pytest.raises(RunError, match="choose another --port"):
        listening("127.0.0.1", first.getsockname()[1])
    with pytest.raises(RunError, match="cannot listen"):
        listening("192.0.2.1", 0)


@pytest.mark.parametrize("content", ["", "short", "0123456789 abcdefgh", "é" * 20])
def test_a_token_must_be_long_and_stand_in_a_header(tmp_path, content):
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with pytest.raises(OptionError, match="--token-file"):
        read_token(tmp_path / "token")


def test_a_token_is_read_without_the_space_around_it(tmp_path):
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert read_token(tmp_path / "token") == "0123456789abcdef"
    with pytest.raises(OptionError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_what_has_been_asked_is_answered_before_sigterm_ends_it(served_folder: Path, run: Any, values: Any) -> None:
    command = ["-c", SERVE, served_folder / "run", "--port", "0", "--device", "cpu"]
    process = forked.Popen(command, together=True)
    try:
        line = next(line for line in process.stdout if line.startswith("serving "))
        url = line.split()[3]
        body = {"rows": [as_json(values[0])] * 40, "shares": True}
        answers: list[Any] = []
        asking = [
            threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/predict", json=body, timeout=120)))
            for _ in range(4)
        ]
        for thread in asking:
            thread.start()
        with httpx.Client(base_url=url, timeout=120) as watching:
            while "mmreg_requests_in_flight 4\n" not in watching.get("/metrics").text:
                assert not answers  # or the requests are over before the signal
        process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        process.communicate(60)
        assert process.returncode == 0
    finally:
        process.kill()
    assert [answer.status_code for answer in answers] == [200] * 4
    expected = run.predict(values[0])[0]
    for answer in answers:
        check_same(answer.json()["predictions"][0], expected)
