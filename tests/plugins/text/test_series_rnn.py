import pytest
import torch
from torch import nn

from mmreg import registry
from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec
from mmreg.errors import OptionError, SpecError
from mmreg.registry.options import check_options
from mmreg.testing import make_subject, run_checks
from mmreg_text.rnn import TextRNN
from mmreg_text.series_rnn import RNN

VECTORS = Spec("TC", (None, 3))


def series() -> Signal:
    torch.manual_seed(1)
    lengths = torch.tensor([5, 2, 4])
    values = torch.randn(3, 5, 3)
    values[torch.arange(5)[None] >= lengths[:, None]] = torch.nan
    return Signal(values, lengths, lengths)


def test_rnn_is_a_component_of_its_own_for_vectors() -> None:
    assert registry.get("encoder", "rnn") is RNN
    assert RNN.accepts(VECTORS, {}) is None
    with pytest.raises(SpecError, match=r'rnn does not take .*a sequence of vectors "TC".*tokens go to text_rnn'):
        RNN(Spec("T", (None,), "int64", 20))


@pytest.mark.parametrize("option", ["embedding_size", "embeddings", "tokenizer"])
def test_options_that_are_of_tokens_alone_are_none_of_rnn(option: str) -> None:
    with pytest.raises(OptionError, match=option):
        check_options(RNN, {option: 8}, "encoder 'rnn'")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_it_gives_what_torchs_layer_and_a_linear_one_give_row_by_row(cell: str) -> None:
    torch.manual_seed(0)
    ours = RNN(VECTORS, features=4, hidden_size=6, cell=cell).eval()
    torchs = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell](3, 6, 2, batch_first=True, bidirectional=True)
    torchs.load_state_dict(ours.rnn.state_dict())
    signal = series()
    pooled = ours(signal).pooled
    assert signal.lengths is not None
    for row, length in enumerate(signal.lengths.tolist()):
        states = torchs(signal.values[row : row + 1, :length])[0][0]
        torch.testing.assert_close(pooled[row], ours.linear(states.mean(0)), rtol=0, atol=1e-6)


def test_measurements_are_not_dropped_in_training() -> None:
    torch.manual_seed(0)
    ours, of_text = (cls(VECTORS, num_layers=1, dropout=0.9, outputs="tokens").train() for cls in (RNN, TextRNN))
    signal, seen = series(), []
    for encoder in (ours, of_text):
        encoder.linear, encoder.rnn.forward = nn.Identity(), lambda values, *_: seen.append(values) or (values, None)
        values = Signal(torch.ones_like(signal.values))
        encoder(values)
    assert bool((seen[0] == 1).all())
    assert not bool((seen[1] == 1).all())


def test_it_passes_the_conformance_checks() -> None:
    report = run_checks(make_subject(registry.find("encoder", "rnn")))
    assert report.ok, [result for result in report.results if result.outcome == "failed"]
