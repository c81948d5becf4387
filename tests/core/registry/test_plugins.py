"""Discovery within one process, what plugins' code is imported by, and that every hook is documented."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmreg import registry
from mmreg.contract import hookspecs
from mmreg.contract.callback import Callback
from mmreg.contract.components import CommandSpec, ComponentSpec, EngineSpec, SourceSpec
from mmreg.errors import PluginError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import one_line
from mmreg.registry import plugins
from mmreg.registry.installed import Plugin, find_plugins
from mmreg.runs.followers import Followers

HOOKS_PAGE = Path(__file__).resolve().parents[3] / "docs/reference/hooks.md"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.refresh()
    yield
    registry.refresh()


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Installs a plugin with this module's text; its modules are forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[mmreg]\n{name} = {name}\n")
        registry.refresh()
        return name

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def record(name: str) -> Plugin:
    return next(plugin for plugin in registry.all_plugins() if plugin.entry_point == name)


HOOK = "import mmreg\n\n@mmreg.hookimpl\ndef {hook}():\n    return {value}\n"


def test_plugins_are_sorted_with_the_bundled_ones_first(add: Callable[..., str]) -> None:
    for name in ("zebra", "ant"):
        add(name, HOOK.format(hook="mmreg_components", value="[]"))
    found = [(plugin.distribution, plugin.entry_point) for plugin in registry.all_plugins()]
    bundled = [name for distribution, name in found if distribution == "mmreg"]
    assert bundled == sorted(bundled)
    assert found[len(bundled) :] == [("ant", "ant"), ("zebra", "zebra")]


def test_many_threads_discover_once_and_all_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    discover = plugins.discover
    barrier = threading.Barrier(16)
    others_run = threading.Event()

    def counting() -> list[Plugin]:
        calls.append(threading.get_ident())
        others_run.wait(0.05)  # let the others come to the lock while this one is under way
        return discover()

    def ask(_: int) -> list[Plugin]:
        barrier.wait()
        return registry.all_plugins()

    monkeypatch.setattr("mmreg.registry.plugins.discover", counting)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert len(calls) == 1
    assert found[0]
    assert all(each is found[0] for each in found)


def test_refreshing_sees_what_was_installed_within_one_tick_of_the_file_systems_clock(
    add: Callable[..., str], tmp_path: Path
) -> None:
    before = tmp_path.stat()
    assert "sudden" not in [plugin.entry_point for plugin in registry.all_plugins()]
    add("sudden", HOOK.format(hook="mmreg_components", value="[]"))
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert record("sudden").status == "ok"


def test_a_plugin_may_ask_and_register_while_it_loads(add: Callable[..., str]) -> None:
    add(
        "asking",
        "import mmreg\nfrom mmreg import registry\n\nseen = [registry.names('encoder')]\n\n"
        "@mmreg.hookimpl\ndef mmreg_components():\n    seen.append(registry.all_plugins())\n    return []\n",
    )
    assert record("asking").status == "ok"
    assert sys.modules["asking"].seen == [[], []]
    assert "image_cnn" in registry.names("encoder")


def test_an_interrupt_while_a_plugin_loads_goes_through(add: Callable[..., str]) -> None:
    add("interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.all_plugins()


def test_a_finder_that_fails_takes_no_other_one_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Finder:
        @staticmethod
        def find_spec(*_: Any) -> None:
            return None

        @staticmethod
        def find_distributions(_: Any) -> Iterator[Any]:
            raise RuntimeError("a bad finder")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert {plugin.entry_point for plugin in find_plugins()} >= {"image", "text"}
    assert "RuntimeError: a bad finder" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("None", "must return a list of CommandSpec, found None"),
        ("['x']", "found 'x' in it"),
        ("1 / 0", "mmreg_commands raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_hook_is_reported_or_raised_in_strict_mode(
    value: str,
    message: str,
    add: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add("wrong", HOOK.format(hook="mmreg_commands", value=value))
    found = [record("wrong")]
    assert list(plugins.call_hook(found, "mmreg_commands", CommandSpec)) == []
    assert [message in line for line in caplog.messages] == [True]
    monkeypatch.setenv("MMREG_STRICT", "1")
    with pytest.raises(PluginError, match=re.escape(message)):
        list(plugins.call_hook(found, "mmreg_commands", CommandSpec))


def test_strict_mode_raises_what_a_callback_raises(add: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    add(
        "following",
        "import mmreg\n\nclass Follower(mmreg.Callback):\n    def on_start(self, run, facts):\n        facts['x']\n\n"
        "@mmreg.hookimpl\ndef mmreg_callbacks():\n    return [Follower()]\n",
    )
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", "report")
    run: Any = None
    Followers().tell("on_start", run, {})
    monkeypatch.setenv("MMREG_STRICT", "1")
    with pytest.raises(PluginError, match=r"Follower.on_start raised KeyError: 'x'"):
        Followers().tell("on_start", run, {})


def test_a_slow_plugin_is_warned_of(add: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr("mmreg.registry.plugins.time.perf_counter", lambda: next(clock))
    add("slow", HOOK.format(hook="mmreg_components", value="[]"))
    plugin = record("slow")
    assert (plugin.status, plugin.seconds) == ("ok", 5)
    assert plugin.seconds >= plugins.SLOW
    assert plugin.warning == "it is slow to load: every command waits 5.0 s for it"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package_xyz", r"names a module that does not exist: 'no_such_package_xyz' \(its target; is it"),
        ("mmreg.nowhere:Thing", r"names a module that does not exist: 'mmreg.nowhere'"),
        ("mmreg.contract.spec:Spek", r"mmreg.contract.spec has no 'Spek'; did you mean 'Spec'"),
        ("mmreg.contract.spec:Spec.sape", r"mmreg.contract.spec has no 'sape'"),
        ("", r"cannot be imported: ValueError: Empty module name"),
        (".relative", r"cannot be imported: TypeError"),
    ],
)
def test_a_target_that_cannot_be_imported_says_why(target: str, message: str) -> None:
    with pytest.raises(ImportError, match=message):
        import_target(target)


def test_a_target_may_lie_within_a_class() -> None:
    assert import_target("mmreg.contract.spec : Spec.to_json").__name__ == "to_json"


def test_an_error_is_one_printable_line_whatever_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert one_line(Mute()) == "Mute"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("two\n  lines\x1b[0m \ud800")) == "ValueError: two lines?[0m ?"
    assert len(one_line(ValueError("x" * 10_000))) < 600


def test_stdout_is_kept_clean_across_threads_and_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with stdout_to_stderr:
            inside.set()
            leave.wait(10)
            os.write(1, b"from the thread\n")

    thread = threading.Thread(target=other)
    with stdout_to_stderr:
        thread.start()
        inside.wait(10)
        print("from here")
    print("still inside the other", flush=True)
    leave.set()
    thread.join()
    print("outside", flush=True)
    os.write(1, b"outside\n")
    out, err = capfd.readouterr()
    assert out == "outside\noutside\n"
    assert sorted(err.splitlines()) == ["from here", "from the thread", "still inside the other"]


def test_stdout_is_given_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ZeroDivisionError), stdout_to_stderr:
        1 / 0  # noqa: B018
    os.write(1, b"here\n")
    assert capfd.readouterr().out == "here\n"


def test_a_plugin_is_reported_once_a_discovery(add: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    add("faulty_xyz", "raise ValueError('a\\nb')")
    with caplog.at_level(logging.WARNING):
        registry.names("encoder")
        registry.names("task")
    assert caplog.messages == [
        "mmreg: plugin faulty_xyz (faulty_xyz 1.0) is left out (failed): it cannot be imported: ValueError: a b"
    ]


def test_leaving_out_adds_to_what_is_left_out_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", "audio")
    plugins.leave_out(["image"])
    assert [p.entry_point for p in registry.all_plugins() if p.status == "blocked"] == ["audio", "image"]


@pytest.mark.parametrize("name", ["nonexistent", "imag"])
def test_a_name_to_leave_out_that_is_no_plugins_is_warned_of_once(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", f"Audio,{name}")
    plugins.leave_out(["sqlite", name])
    with caplog.at_level(logging.WARNING):
        registry.all_plugins()
    (message,) = caplog.messages
    hint = "; 'mmreg plugins' lists what is installed" if name == "nonexistent" else "; did you mean 'image'"
    assert message.startswith(f"mmreg: --no-plugin or MMREG_DISABLE_PLUGINS names '{name}', which is no plugin{hint}")


def test_two_plugins_of_one_distribution_cannot_declare_one_component(
    add: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    value = "[mmreg.ComponentSpec('encoder', 'same_xyz', 'a:b')]"
    text = HOOK.format(hook="mmreg_components", value=value)
    add("twice", text)
    add("elsewhere", text)
    (tmp_path / "second.py").write_text(text)
    (tmp_path / "twice-1.0.dist-info/entry_points.txt").write_text("[mmreg]\nfirst = twice\nsecond = second\n")
    registry.refresh()
    with caplog.at_level(logging.WARNING):
        first, second = record("first"), record("second")
    error = "it declares the encoder 'same_xyz', as first (twice 1.0) does"
    assert (first.status, second.status, second.error) == ("ok", "failed", error)
    assert (second.components, second.hooks) == ((), {})
    assert caplog.messages == [f"mmreg: plugin second (twice 1.0) is left out (failed): {error}"]
    assert registry.find("encoder", "twice:same_xyz").distribution == "twice"
    assert registry.find("encoder", "elsewhere:same_xyz").distribution == "elsewhere"  # another distribution may


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (lambda: CommandSpec("two words", "", "a:b"), "no name for a command"),
        (lambda: CommandSpec("x", "", "a"), "must read 'package.module:name'"),
        (lambda: CommandSpec("x", 3, "a:b"), "help must be text"),  # type: ignore[arg-type]
        (lambda: SourceSpec("sqlite://", "a:b"), "no name for a source"),
        (lambda: SourceSpec(".CSV", "a:b"), "no name for a source"),
        (lambda: SourceSpec("s3", ":b"), "must read 'package.module:name'"),
        (lambda: EngineSpec("ray:1", "a:b"), "no name for an engine"),
        (lambda: EngineSpec("ray", "a"), "must read 'package.module:name'"),
        (lambda: EngineSpec("ray", "a:b", None), "summary must be text"),  # type: ignore[arg-type]
        (lambda: ComponentSpec("encoder", "x", "a.b"), "must read 'package.module:name'"),
    ],
)
def test_specs_refuse_what_cannot_work(spec: Callable[[], object], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        spec()


def test_specs_take_what_can_work() -> None:
    for name in ("s3", "postgresql+psycopg", ".sas7bdat", ".nii.gz"):
        assert SourceSpec(name, "a:b").name == name


def documented(section: str) -> str:
    """The text of a section of the page about hooks."""
    text = HOOKS_PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^##+ `{re.escape(section)}`.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference/hooks.md has no section `{section}`"
    return found[1]


def test_every_hook_and_argument_is_documented() -> None:
    hooks = [hook for name, hook in vars(hookspecs).items() if name.startswith("mmreg_")]
    assert len(hooks) >= 4
    for hook in hooks:
        text = documented(hook.__name__)
        assert inspect.getdoc(hook), hook
        for argument in inspect.signature(hook).parameters:
            assert f"`{argument}`" in text, (hook.__name__, argument)


@pytest.mark.parametrize(
    ("hook", "spec"),
    [
        ("mmreg_components", ComponentSpec),
        ("mmreg_commands", CommandSpec),
        ("mmreg_sources", SourceSpec),
        ("mmreg_engines", EngineSpec),
    ],
)
def test_every_field_of_what_a_hook_returns_is_documented(hook: str, spec: Any) -> None:
    text = documented(hook)
    assert f"`{spec.__name__}`" in text
    for field in dataclasses.fields(spec):
        assert f"`{field.name}`" in text, field.name
        assert re.search(rf"^\s+{field.name}: ", spec.__doc__, re.MULTILINE), field.name


def test_every_event_of_a_callback_and_argument_is_documented() -> None:
    text = documented("mmreg_callbacks")
    events = [event for name, event in vars(Callback).items() if name.startswith("on_")]
    assert len(events) == 8
    for event in events:
        assert f"`{event.__name__}`" in text
        arguments = [name for name in inspect.signature(event).parameters if name != "self"]
        for argument in arguments:
            assert f"`{argument}`" in text, (event.__name__, argument)
            assert re.search(rf"^\s+{argument}: ", event.__doc__, re.MULTILINE), (event.__name__, argument)


def test_every_hook_has_a_bundled_use() -> None:
    used = {hook for plugin in registry.all_plugins() if plugin.distribution == "mmreg" for hook in plugin.hooks}
    assert used == {name for name in vars(hookspecs) if name.startswith("mmreg_")}
