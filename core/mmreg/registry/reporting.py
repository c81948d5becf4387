"""The sections of reports that plugins bring: listed as data, imported when one is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mmreg.contract.components import SectionSpec
from mmreg.errors import PluginError, RunError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import one_line, shown
from mmreg.registry.lookup import all_plugins
from mmreg.registry.plugins import Plugin, call_hook
from mmreg.sections import Block, Reported


@dataclass(frozen=True)
class Section:
    """A section and where it comes from.

    Attributes:
        spec: what its plugin declares.
        plugin: that brings it.
    """

    spec: SectionSpec
    plugin: Plugin

    def blocks(self, reported: Reported | Path) -> list[Block]:
        """What it tells of a run, or of a folder if it is of folders; nothing where it has nothing to say of it.

        Raises:
            RunError: what it says itself of a folder that is damaged.
            PluginError: it cannot be imported, raises, or gives anything but a list of blocks.
        """
        what = f"the section {self.spec.name!r} of plugin {self.plugin}"
        try:
            write = import_target(self.spec.target)
            with stdout_to_stderr:
                blocks = write(reported)
        except (KeyboardInterrupt, RunError):
            raise
        except ImportError as error:
            raise PluginError(f"{what} {error}") from error
        except BaseException as error:  # a plugin may raise anything
            raise PluginError(f"{what} raised {one_line(error)}") from error
        if not isinstance(blocks, list | tuple):
            raise PluginError(f"{what} must give a list of blocks, found {shown(blocks)}")
        for block in blocks:
            if not isinstance(block, get_args(Block)):
                raise PluginError(f"{what} must give texts, tables and figures, found {shown(block)}")
        return list(blocks)


def sections() -> list[Section]:
    """Every plugin's sections, in the plugins' order."""
    return [Section(spec, plugin) for plugin, spec in call_hook(all_plugins(), "mmreg_sections", SectionSpec)]
