"""The formats of image files: by the extension of their names, and by the first bytes of their content."""

FORMAT_OF = {
    ".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".pbm": "PPM", ".pgm": "PPM", ".png": "PNG",
    ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip

# WebP has its length first: see `contradiction`.
_SIGNATURES = {
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def contradiction(raw: bytes, extension: str) -> str | None:
    """Why a file is refused whose content is of another known format than its extension says; None elsewhere."""
    named = FORMAT_OF.get(extension)
    found = next((name for name, begins in _SIGNATURES.items() if raw.startswith(begins)), None)
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        found = "WEBP"
    if named is None or found in (None, named):
        return None
    return f"its name says {named}, but its content is {found}; rename it"
