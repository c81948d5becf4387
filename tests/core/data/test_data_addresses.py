"""Which addresses are one, whose they are, and what is beside them."""

from __future__ import annotations

import pytest

from mmreg.data.addresses import beside, check_address, is_within, place_of
from mmreg.errors import TableError
from mmreg.messages import shown, shown_address


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://Host.org/a/b.png", "https://host.org/"),
        ("HTTPS://host:8443/a?x=1#y", "https://host:8443/"),
        ("https://host?x=1", "https://host/"),
        ("s3://Bucket/a/b.png", "s3://Bucket/"),
        ("hf://datasets/user/name/a/b.png", "hf://datasets/user/name/"),
    ],
)
def test_an_address_belongs_to_its_host_bucket_or_data_set(address: str, place: str) -> None:
    assert place_of(address) == place
    assert is_within(address, [place])


@pytest.mark.parametrize(
    ("address", "place", "within"),
    [
        ("https://host/a/b.png", "https://host/a", True),
        ("https://host/a/b.png", "https://host/a/", True),
        ("https://HOST/a/b.png", "https://host", True),
        ("https://host/ab.png", "https://host/a", False),
        ("https://host/A/b.png", "https://host/a", False),
        ("https://host.evil.org/a", "https://host", False),
        ("https://evil/?https://host/a", "https://host/", False),
        ("http://host/a", "https://host/", False),
        ("https://host:81/a", "https://host/", False),
        ("s3://bucket-evil/a", "s3://bucket", False),
        ("s3://bucket/a", "s3://bucket", True),
        ("s3://bucket/a", "gs://bucket", False),
    ],
)
def test_what_is_below_a_place_is_told_by_whole_parts(address: str, place: str, within: bool) -> None:
    assert is_within(address, [place]) is within


@pytest.mark.parametrize(
    ("base", "name", "address"),
    [
        ("https://host/d/t.csv?version=2", "a b#%.png", "https://host/d/a%20b%23%25.png"),
        ("https://host/d/t.csv", "../é/1.png", "https://host/%C3%A9/1.png"),
        ("https://host/t.csv", "./x/./1.png", "https://host/x/1.png"),
        ("s3://bucket/d/e/t.csv", "../a b#.png", "s3://bucket/d/a b#.png"),
        ("hf://datasets/u/n/d/t.csv", "1.png", "hf://datasets/u/n/d/1.png"),
        ("memory://bucket/t.csv", "x\\1.png", "memory://bucket/x/1.png"),
    ],
)
def test_a_relative_path_is_beside_the_table(base: str, name: str, address: str) -> None:
    assert beside(base, name) == address


@pytest.mark.parametrize("name", ["../1.png", "a/../../1.png", "/etc/passwd", "\\\\host\\share", "x/../../../y"])
def test_a_relative_path_leads_nowhere_else(name: str) -> None:
    with pytest.raises(TableError, match=r"leads out of|absolute path"):
        beside("https://host/t.csv", name)


@pytest.mark.parametrize(
    "address",
    [
        "https://user@host/a",
        "https://:pw@host/a",
        "https://host\\@evil/a",
        "https://ho st/a",
        "https://host/a/../b",
        "https://host/a/%2e%2E/b",
        "https://host/a\r\nX: y",
        "s3://bucket/../other/a",
    ],
)
def test_what_programs_may_read_in_different_ways_is_refused(address: str) -> None:
    with pytest.raises(TableError):
        check_address(address, parameters=True)


def test_messages_show_no_secret_of_an_address() -> None:
    text = "cannot read https://me:hunter2@host/a?sig=hunter2, nor s3://key:hunter2@bucket/a"
    assert "hunter2" not in shown_address(text)
    assert shown_address("https://host/a.png") == "https://host/a.png"
    assert "hunter2" not in shown({"table": "https://me:hunter2@host/a"})
    assert "hunter2" not in shown("https://host/" + "a" * 200 + "?sig=hunter2")
