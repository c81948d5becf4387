"""`mmreg init`: which encoder it writes for a column, as encoders themselves say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from small import Caller
from tokenizers import Tokenizer, models, pre_tokenizers

from mmreg import EncoderSuggestion, registry
from mmreg_text import table as tables
from mmreg_text.bag import FEW, LONG, TextBag
from mmreg_text.rnn import TextRNN


@pytest.fixture(autouse=True)
def no_packages_with_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here beside mmreg makes no difference."""
    monkeypatch.setattr(tables, "packaged", lambda name: None)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("name,label\n" + "a small red bird,bird\nthe old green tree,tree\n" * 20)
    return path


def drafted(cli: Caller, table: Path) -> tuple[dict[str, Any], str]:
    """What init writes for the one column, and the reason."""
    out = table.with_suffix(".yaml")
    done = cli("init", table, "--out", out, "--overwrite")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("  name: ")]
    assert cli("validate", out).code == 0
    chosen: dict[str, Any] = yaml.safe_load(done.out)["modalities"]["name"]
    return chosen, line.partition("# ")[2]


def proposing(answer: Any, needs: Mapping[str, Any] | None = None) -> type[TextRNN]:
    class Proposing(TextRNN):
        """Encodes tokens and proposes itself."""

        @classmethod
        def suggest(
            cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
        ) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer(modality, values, rows) if callable(answer) else answer

        @classmethod
        def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
            return needs or {}

    return Proposing


def test_few_texts_get_a_bag_of_ngrams(cli: Caller, table: Path) -> None:
    chosen, reason = drafted(cli, table)
    assert chosen == {"type": "text", "column": "name", "encoder": "text_bag"}
    assert reason == "n-grams, which 28 training rows are enough for"


def test_many_short_texts_are_left_to_the_recurrent_encoder_and_long_ones_are_not() -> None:
    assert TextBag.suggest("text", ["a red bird"], FEW + 1) is None
    assert TextBag.suggest("text", ["bird " * LONG], FEW + 1) == EncoderSuggestion({}, "n-grams, as the texts are long")
    assert TextBag.suggest("image", ["a red bird"], 10) is None


def test_a_table_at_hand_is_proposed_frozen_with_what_it_costs(
    cli: Caller, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    package = tmp_path / "site" / "wordllama"
    for name in ("weights", "tokenizers"):
        (package / name).mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is not to be imported')")
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "bird": 1, "tree": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(package / tables.PACKAGED["wordllama"].tokenizer))
    save_file({"embedding.weight": torch.randn(3, 4)}, package / tables.PACKAGED["wordllama"].weights)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)  # a test of its own may have imported it
    chosen, reason = drafted(cli, table)
    encoder = {"name": "static_embedding", "weights": "wordllama", "freeze": True}
    assert chosen == {"type": "text", "column": "name", "encoder": encoder}
    assert reason == "pretrained, at hand: wordllama, 0 MB, frozen, for English; else text_bag"


def test_the_highest_rank_counts_and_of_equal_ones_the_first_name(cli: Caller, table: Path) -> None:
    for name, rank in (("zz_high", 5), ("yy_high", 5), ("aa_low", 4), ("bb_none", 0)):
        registry.register("encoder", name, proposing(EncoderSuggestion({"lr": 0.5}, f"said by {name}", rank)))
    assert drafted(cli, table) == (
        {"type": "text", "column": "name", "encoder": {"name": "yy_high", "lr": 0.5}},
        "said by yy_high",
    )


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("broken"), 3, None, EncoderSuggestion({"no_such_option": 1}, "wrong", 9), lambda *_: 1 / 0],
    ids=["error", "number", "nothing", "unknown option", "function"],
)
def test_what_an_encoder_must_not_answer_is_no_answer(answer: Any, cli: Caller, table: Path) -> None:
    registry.register("encoder", "wrong", proposing(answer))
    assert drafted(cli, table)[0]["encoder"] == "text_bag"


def test_it_is_asked_with_values_and_rows_and_its_own_needs_are_not_written(cli: Caller, tmp_path: Path) -> None:
    asked = []

    def answer(*arguments: Any) -> EncoderSuggestion:
        asked.append(arguments)
        return EncoderSuggestion({}, "it said so", 9)

    registry.register("encoder", "asking", proposing(answer, {"max_tokens": 7}))
    path = tmp_path / "table.csv"
    path.write_text("name,label\n" + f"{'bird ' * 200},bird\n{'tree ' * 200},tree\n" * 20)
    chosen, reason = drafted(cli, path)
    assert chosen == {"type": "text", "column": "name", "encoder": "asking"}
    assert reason == "it said so"
    ((modality, values, rows),) = asked
    assert (modality, len(values), rows) == ("text", 40, 28)
    assert values[0] == "bird " * 200
