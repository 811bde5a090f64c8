"""What all stores say of a URL that cannot be meant as it is read."""

from __future__ import annotations

import pytest

from piecework.errors import BadSettings
from piecework.store import open_store


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("a#secret", r"has a #.* write it as %23"),
        ("a#", r"has a #"),
        ("a?secret", r"not name=value.* write a \? as %3F"),
        ("a?synchronous=full&secret", r"not name=value"),
        ("a?schema=b&schema=secret", r"says schema more than once"),
    ],
)
@pytest.mark.parametrize(
    "begin", ["sqlite:///", "postgresql://jo:word@h/", "redis://jo:word@h/", "valkey+cluster://h/"]
)
def test_nothing_in_a_url_goes_unheard(begin: str, rest: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said) as refused:
        open_store(begin + rest)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("mark", ["#", "?", "/"])
@pytest.mark.parametrize("begin", ["postgresql", "redis", "rediss", "valkey+cluster"])
def test_half_of_a_password_is_not_shown(begin: str, mark: str) -> None:
    with pytest.raises(BadSettings, match="in a password") as refused:
        open_store(f"{begin}://jo:moon{mark}light@h/0")
    assert "moon" not in str(refused.value)
    assert "light" not in str(refused.value)


def test_what_is_written_as_it_is_to_be_is_read() -> None:
    assert open_store("sqlite:///a%23b%3Fc@d.db").url == "sqlite:///a%23b%3Fc@d.db"
    for begin, end in ("postgresql", "/jobs"), ("redis", "/0"):
        assert "moon" not in open_store(f"{begin}://jo:moon%2F%23%3F%40light@h:1{end}").url
