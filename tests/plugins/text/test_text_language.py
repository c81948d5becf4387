"""Which texts are taken for English, by wordllama's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest

from mmreg_text import table as tables
from mmreg_text.bag import TextBag
from mmreg_text.language import looks_english
from mmreg_text.static import StaticEmbedding

ENGLISH = {
    "tweets": ["just missed my bus again, great start to the day", "omg this new phone is sooo good!!! love it"],
    "reviews": ["The battery lasts two days, but the camera is bad in low light.", "Would buy again."],
    "news": ["Shares of the company fell by nine percent after the regulator announced an investigation."],
    "medical": ["Patient presents with acute dyspnea and bilateral lower-extremity edema; echocardiogram ordered."],
    "products": ["Stainless steel water bottle 750 ml, matte black", "Organic peanut butter crunchy 500g"],
    "words of another language": ["the best pizza di Napoli and a glass of vino, it was worth the money"],
    "support": ["Invoice wrong, please correct", "Parcel arrived broken", "Forgot password"],
    "species": ["Passer domesticus house sparrow", "Turdus merula common blackbird", "Quercus robur oak"],
    "names of emoji": ["grinning face with smiling eyes", "flag: Côte d'Ivoire", "red heart", "T-Rex", "oden"],
}
OTHERS = {
    "German": ["Die Lieferung kam pünktlich und die Verpackung war unbeschädigt.", "Nicht zu empfehlen!"],
    "German products": ["Kabellose Maus mit USB-Empfänger", "Gartenschlauch mit Spritzdüse, 20 Meter"],
    "German names": ["rotes Herz", "lachende Katze", "Hand nach links zeigend", "fallende Blätter"],
    "French": ["La livraison était rapide et le produit correspond à la description."],
    "Spanish": ["El envío llegó tarde y la caja estaba rota.", "Muy buena calidad."],
    "Spanish products": ["Altavoz Bluetooth negro", "Silla plegable jardín", "Lámpara escritorio LED"],
    "Italian": ["La spedizione è stata veloce e il prodotto è di ottima qualità."],
    "Portuguese": ["A entrega foi rápida e o produto é de boa qualidade."],
    "Dutch": ["De levering was snel en het product werkt uitstekend."],
    "Swedish": ["Leveransen var snabb och produkten fungerar utmärkt."],
    "Polish": ["Dostawa była szybka, a produkt działa bez zarzutu.", "Niestety bateria już nie działa."],
    "Turkish": ["Teslimat hızlıydı ve ürün beklediğimden iyi çıktı."],  # noqa: RUF001 (they are what is written)
    "Finnish": ["Toimitus oli nopea ja tuote toimii erinomaisesti."],
    "Indonesian": ["Pengiriman cepat dan produk sesuai dengan deskripsi."],
    "Russian": ["Доставка была быстрой, товар соответствует описанию."],
    "Greek": ["Η παράδοση ήταν γρήγορη και το προϊόν είναι καλό."],  # noqa: RUF001 (they are what is written)
    "Japanese": ["配送が早くて、商品の品質も良かったです。"],
    "Arabic": ["كان التسليم سريعًا والمنتج جيد جدًا."],
    "numbers": ["12 7", "99"],
}


@pytest.fixture(scope="module")
def vocabulary() -> Any:
    pytest.importorskip("wordllama")
    files = tables.packaged("wordllama")
    assert files is not None
    return tables.tokens_of(files[1])


@pytest.mark.parametrize("kind", ENGLISH)
def test_english_texts_and_names_are_taken(kind: str, vocabulary: Any) -> None:
    assert looks_english(ENGLISH[kind], vocabulary)


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_are_not(language: str, vocabulary: Any) -> None:
    assert not looks_english(OTHERS[language], vocabulary)
    assert StaticEmbedding.suggest("text", OTHERS[language], 1000) is None


def test_it_is_said_why_a_table_at_hand_is_not_proposed(vocabulary: Any) -> None:
    bag = TextBag.suggest("text", OTHERS["German"], 1000)
    assert bag is not None
    assert bag.reason.endswith("; wordllama, at hand, is for English, which these texts do not look like")
    bag = TextBag.suggest("text", ENGLISH["reviews"], 1000)
    assert bag is not None
    assert "wordllama" not in bag.reason


def test_the_names_of_emoji_are_taken(real_data: Path, vocabulary: Any) -> None:
    names = pyarrow.csv.read_csv(real_data / "emoji" / "manifest.csv").column("text").to_pylist()
    assert looks_english(names[:200], vocabulary)
    assert StaticEmbedding.suggest("text", names[:200], 1000) is not None


def test_a_tokenizer_that_cannot_be_read_knows_no_words(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not tables.tokens_of(tmp_path / "tokenizer.json")
    assert not tables.tokens_of(tmp_path / "missing.json")
