"""QR codes as small SVG that stands inline in a page and in a PDF alike. Pure."""

import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape

import zxingcpp

QUIET_ZONE_MODULES = 4  # ISO/IEC 18004: what a scanner needs white around the code
DARK_RUN = re.compile(rb"\x00+")
# A page is looked at again and again; a code is some three kilobytes.
KEEP_DRAWINGS = 1024


def svg(text: str, *, title: str) -> str:
    """An `<svg>` element with the QR code of `text`, black on white in every colour scheme.

    Error correction is at least level M (15 % may be lost) and higher where it costs no size. One unit of the
    view box is one module; the page decides the size. `title` is what a screen reader says.
    """
    side, path = _drawing(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" role="img"'
        f' shape-rendering="crispEdges"><title>{escape(title)}</title>'
        f'<path fill="#fff" d="M0 0h{side}v{side}H0z"/><path stroke="#000" d="{path}"/></svg>'
    )


@lru_cache(maxsize=KEEP_DRAWINGS)
def _drawing(text: str) -> tuple[int, str]:
    """The side of the view box, and a path of which each run of dark modules is a stroke."""
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    image = code.to_image(scale=1, add_quiet_zones=False)
    side = image.shape[0]
    cells = memoryview(image).tobytes()  # type: ignore[arg-type] # it is a buffer: a byte each, 0 is dark
    rows = [cells[start : start + side] for start in range(0, side * side, side)]
    return side + 2 * QUIET_ZONE_MODULES, "".join(_strokes(rows))


def _strokes(rows: list[bytes]) -> Iterator[str]:
    """Each run of dark modules is a stroke one module thick through the middle of its row."""
    x, y = 0, 0
    for row, cells in enumerate(rows):
        for run in DARK_RUN.finditer(cells):
            left, length = run.start(), run.end() - run.start()
            if (x, y) == (0, 0):
                yield f"M{left + QUIET_ZONE_MODULES} {row + QUIET_ZONE_MODULES + 0.5}h{length}"
            else:
                yield f"m{left - x} {row - y}h{length}"
            x, y = run.end(), row
