"""Declares the text components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The text modality and its encoders."""
    return [
        ComponentSpec("modality", "text", "mmreg_text.modality:Text", "Text as a sequence of tokens."),
        ComponentSpec("encoder", "text_rnn", "mmreg_text.rnn:TextRNN", "LSTM, GRU or plain RNN for token sequences."),
        ComponentSpec(
            "encoder",
            "rnn",
            "mmreg_text.series_rnn:RNN",
            "LSTM, GRU or plain RNN for series and other vectors in a row.",
        ),
        ComponentSpec("encoder", "text_bag", "mmreg_text.bag:TextBag", "A bag of word and character n-grams."),
        ComponentSpec(
            "encoder",
            "static_embedding",
            "mmreg_text.static:StaticEmbedding",
            "The mean of pretrained token vectors (model2vec, wordllama, GloVe converted).",
        ),
    ]
