"""What the URLs of all stores have in common: nothing in them goes unheard."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

from piecework.errors import BadSettings


def read_url(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of a URL, and its options. Raises `BadSettings`, which shows nothing that may be half of a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadSettings(f"the store's URL cannot be read: {error}") from None
    if "#" in url:
        raise BadSettings(
            "the store's URL has a #, behind which nothing is read; in a password or a path write it as %23"
        )
    if parts.netloc and "@" not in parts.netloc and "@" in parts.path:
        raise BadSettings("the store's URL has an @ behind a /; in a password write a / as %2F, elsewhere an @ as %40")
    try:
        said = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise BadSettings(
            "the store's URL has something behind the ? that is not name=value; in a password or a path write a ? as %3F"
        ) from None
    options = dict(said)
    if len(options) < len(said):
        twice = sorted({name for name, _ in said if sum(name == other for other, _ in said) > 1})
        raise BadSettings(f"the store's URL says {', '.join(twice)} more than once")
    return parts, options
