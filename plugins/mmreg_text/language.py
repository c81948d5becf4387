"""Whether texts look English, for tables of vectors that know little else: a guess from words alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

FEWEST_KNOWN = 0.25
"""The share of words that a vocabulary made on English has whole. With wordllama's it was at least 0.33 in English
tweets, reviews, news, medical notes and names of products and emoji, and 0.27 in names of species; at most 0.15 in
Finnish, Indonesian and Turkish, 0.22 in names of German, French, Spanish and Italian products, and 0 in Greek, Japanese
and Arabic; but 0.27 in Russian, 0.36 in German names of emoji, 0.58 in German sentences and 0.91 in French ones, so
that it does not suffice."""
MOST_ACCENTED = 0.05
"""The share of words with a letter beyond a to z, as in "Lämpchen": 0.01 in names of emoji, which have some of
countries; in the German, French, Spanish, Portuguese, Swedish, Polish and Turkish texts that it was tried on 0.07 to
0.58, but none in Dutch or Indonesian."""

_ENGLISH_WORDS = """
a about all and are as at be been but by can for from had has have he her his i if in is it its just my not of on or our
she so that the their them there they this to was we were what when which will with would you your
"""
# By line: German; Dutch; French; Spanish; Italian; Portuguese; Romanian; Nordic languages and Finnish; Polish, Czech,
# Hungarian; Turkish, Indonesian and Vietnamese.
_FOREIGN_WORDS = """
und der das ist nicht ich mit ein eine einen für auf dem zu sich von auch oder wir sie wurde sehr nach im am
de het een niet ik voor zijn dat naar heb ook maar zeer bij wordt
le la les des une est et pas que pour dans je du qui sur avec très au ce cette mais plus
el los las y es por para lo su muy del se una con pero como
il di che è non sono della gli nel molto ma anche si questo
não uma os é da de em um mais muito foi na
și este nu sau pentru cu din care
och att det är som på av inte jag og er ikke jeg til af men ja ei se että mutta oli hyvin
nie się że jest ale bardzo po není jsem ve az és nem egy hogy van
ve bir bu çok için ama dan yang dengan untuk ini tidak và là của không
"""
ENGLISH = frozenset(_ENGLISH_WORDS.split())
"""Frequent words of English."""
FOREIGN = frozenset(_FOREIGN_WORDS.split())
"""Frequent words of other languages that English texts hardly have."""


def looks_english(texts: Iterable[str], vocabulary: Collection[str]) -> bool:
    """Whether texts could well be English; names of things without any small words can.

    They are taken for something else if more than half of their letters are not Latin, if several of a hundred words
    have accents, if few are in the vocabulary, or if frequent words of other languages are at least as many as English
    ones.

    Args:
        texts: some of them.
        vocabulary: the tokens of a tokenizer; a word's begin may be marked by "▁" or "Ġ".
    """
    words = [word for text in texts for word in re.findall(r"[^\W\d_]+", text)]
    if not words:
        return False
    if 2 * sum(letter < "\u0250" for word in words for letter in word) < sum(map(len, words)):
        return False
    if sum(not word.isascii() for word in words) > max(1, MOST_ACCENTED * len(words)):
        return False
    forms = [(word, word.lower()) for word in words]
    marks = [mark for mark in ("▁", "Ġ") if any(token.startswith(mark) for token in vocabulary)] or [""]
    known = sum(any(mark + form in vocabulary for mark in marks for form in pair) for pair in forms)
    if known < FEWEST_KNOWN * len(words):
        return False
    foreign = sum(lower in FOREIGN for _, lower in forms)
    return foreign == 0 or foreign < sum(lower in ENGLISH for _, lower in forms)
