"""References to models, pinned to their content: `models:/digits-source/3#sha256=…`."""

_MARK = "#sha256="


def pinned(uri: str, digest: str) -> str:
    """`uri` with the digest (`sha256:<hex>` or bare hex) that its content must have."""
    return unpinned(uri) + _MARK + digest.removeprefix("sha256:")


def unpinned(uri: str) -> str:
    """`uri` without its digest."""
    return uri.partition(_MARK)[0]


def pin_of(uri: str) -> str | None:
    """The digest in a pinned reference, as `sha256:<hex>`; None where there is none."""
    _, mark, digest = uri.partition(_MARK)
    return f"sha256:{digest}" if mark else None
