"""An earlier run whose encoder an input of a recipe begins with: its component, state and weights, and its modality."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreg.contract.interfaces import Encoder, Modality
from mmreg.contract.lifecycle import migrated
from mmreg.contract.spec import Spec, Specs, specs_from_json, specs_text
from mmreg.errors import MmregError, RunError
from mmreg.messages import near, one_line
from mmreg.recipe.form import Input
from mmreg.recipe.yaml import read_yaml
from mmreg.registry import Entry
from mmreg.registry.options import option_names
from mmreg.run_files.facts import RECIPE, WEIGHTS, read_facts, run_file
from mmreg.run_files.weights import read_weights, weights_checksum


@dataclass(frozen=True)
class EarlierInput:
    """One input of an earlier run; nothing is read of it before it is asked for.

    Attributes:
        folder: the run's, absolute.
        name: the input's.
    """

    folder: Path
    name: str

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts = read_facts(self.folder)
        if self.name not in (inputs := facts["modalities"]):
            there = ", ".join(inputs)
            raise RunError(f"the run {self.folder} has no input {self.name!r}{near(self.name, inputs)}; it has {there}")
        if not run_file(self.folder, WEIGHTS).is_file():
            raise RunError(f"the run {self.folder} has no weights: its training has not ended")
        return facts

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """The run's inputs, as its recipe spells them out."""
        assert self._facts  # a folder that is no run says so by these
        path = run_file(self.folder, RECIPE)
        damaged = f"{path} is damaged, or was edited"
        try:
            inputs: dict[str, Any] = read_yaml(path.read_text(encoding="utf-8"), RECIPE)[0]["modalities"]
            given = inputs[self.name]
            encoder = inputs[given["encoder"].get("share") or self.name]["encoder"]
            spelled_out = isinstance(given["type"], str) and isinstance(encoder["name"], str)
        except (MmregError, OSError, UnicodeDecodeError) as error:
            raise RunError(f"{damaged}: {one_line(error)}") from error
        except (LookupError, TypeError, AttributeError):  # something else stands where one of these should
            spelled_out = False
        if not spelled_out:
            raise RunError(f"{damaged}: it does not spell out the modality and the encoder of {self.name!r}")
        return inputs

    @property
    def owner(self) -> str:
        """The run's input whose encoder this one has: mostly its own."""
        return str(self._inputs[self.name]["encoder"].get("share") or self.name)

    @property
    def encoder_name(self) -> str:
        """The encoder's, as the registry has it."""
        return str(self._inputs[self.owner]["encoder"]["name"])

    def encoder_options(self, cls: type) -> dict[str, Any]:
        """The options of the encoder, whose class this is; paths of assets are relative to the run."""
        options = option_names(cls)
        return {key: value for key, value in self._inputs[self.owner]["encoder"].items() if key in options}

    def modality_options(self) -> dict[str, Any]:
        """The options of the run's modality."""
        return {key: value for key, value in self._inputs[self.name].items() if key not in Input.model_fields}

    @property
    def is_referred_to(self) -> bool:
        """Whether the run keeps no weights of the encoder, which is built from a file and stays as it is."""
        return self.owner in self._facts.get("references", {})

    def has_modality(self, modality: Entry) -> bool:
        """Whether the run's modality is of the same kind, so that what it has learned is taken over as well."""
        return bool(self._inputs[self.name]["type"] == modality.reference)

    def restored_modality(self, made: Modality) -> Modality:
        """A modality, new with the options of this recipe, with what the run's has learned.

        Raises:
            RunError: it does not take the run's state.
        """
        role = f"modality/{self.name}"
        try:
            made.load_state(migrated(type(made), self._facts["modalities"][self.name]["state"], self._version(role)))
        except Exception as error:  # whatever a plugin's code raises
            raise RunError(f"{role} of the run {self.folder} cannot be restored: {one_line(error)}") from error
        return made

    def load_into(self, encoder: Encoder, tokens: bool) -> None:
        """Give an encoder, made to be restored, the state and the weights of the run's.

        Args:
            encoder: with the options of this recipe; of one that the run refers to, built from its file.
            tokens: whether it gives tokens: what the run's needed for pooling them is left out then.

        Raises:
            RunError: they do not fit, or the run's weights are damaged.
        """
        role = f"encoder/{self.owner}"
        if self.is_referred_to:
            if weights_checksum(encoder.state_dict()) != self._facts["references"][self.owner]["checksum"]:
                raise RunError(f"{role} of the run {self.folder} was built from another file than this one; train anew")
            return
        encoder.load_state(migrated(type(encoder), self._facts.get("states", {}).get(role, {}), self._version(role)))
        weights, own = self._weights(), encoder.state_dict()
        wrong = [name for name, tensor in own.items() if name not in weights or weights[name].shape != tensor.shape]
        wrong += [] if tokens else [name for name in weights if name not in own]
        if wrong:
            told = f"{', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}"
            raise RunError(f"the weights of {role} of the run {self.folder} do not fit: {told}")
        encoder.load_state_dict({name: weights[name] for name in own})

    def refusal(self, modality: Entry, spec: Specs) -> str | None:
        """Why an input cannot have this encoder; None if it can.

        Args:
            modality: the input's.
            spec: what it gives.
        """
        before = specs_from_json(self._facts["modalities"][self.name]["spec"])
        if before != spec:
            return f"{self.name!r} of that run gave {specs_text(before)}, this input gives {specs_text(spec)}"
        numbered = isinstance(spec, Spec) and spec.vocabulary_size is not None
        if numbered and not self.has_modality(modality):
            return f"{self.name!r} of that run was another modality, whose token numbers mean something else"
        return None

    def _weights(self) -> dict[str, Tensor]:
        start = f"encoders.{self.owner}."
        found = read_weights(run_file(self.folder, WEIGHTS))
        return {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}

    def _version(self, role: str) -> int:
        return int(self._facts["components"].get(role, {}).get("component_version", 1))

    def check(self) -> None:
        """Read what the run says of it.

        Raises:
            RunError: it is no run, is damaged, has not ended, or has no such input.
        """
        assert self._inputs


def earlier_input(folder: Path, name: str | None, own: str) -> EarlierInput:
    """The input of a run that is meant, read and checked.

    Args:
        folder: the run's.
        name: what the recipe says of it.
        own: the name of the recipe's input: that of the run's where nothing is said, and the run has several.

    Raises:
        RunError: as `EarlierInput.check`; or it is open which input is meant.
    """
    if name is None:
        inputs = list(read_facts(folder)["modalities"])
        if own not in inputs and len(inputs) > 1:
            raise RunError(f"the run {folder} has the inputs {', '.join(inputs)}; name one of them by input: ...")
        name = own if own in inputs else inputs[0]
    found = EarlierInput(folder, name)
    found.check()
    return found
