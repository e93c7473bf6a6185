"""QR codes as small SVG that stands inline in a page and in a PDF alike. Pure."""

from html import escape
from itertools import groupby

import segno

QUIET_ZONE_MODULES = 4  # ISO/IEC 18004: what a scanner needs white around the code


def svg(text: str, *, title: str) -> str:
    """An `<svg>` element with the QR code of `text`, black on white in every colour scheme.

    Error correction is at least level M (15 % may be lost) and higher where it costs no size. One unit of the
    view box is one module; the page decides the size. `title` is what a screen reader says.
    """
    code = segno.make(text, error="m", micro=False)
    side = code.symbol_size(border=QUIET_ZONE_MODULES)[0]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" role="img"'
        f' shape-rendering="crispEdges"><title>{escape(title)}</title>'
        f'<path fill="#fff" d="M0 0h{side}v{side}H0z"/><path stroke="#000" d="{_path(code)}"/></svg>'
    )


def _path(code: segno.QRCode) -> str:
    """Each run of dark modules is a stroke one module thick through the middle of its row."""
    strokes: list[str] = []
    x, y = 0.0, 0.0
    for row_index, row in enumerate(code.matrix):
        column = 0
        for dark, cells in groupby(row, key=lambda module: module & 1):
            length = sum(1 for _ in cells)
            if dark:
                left, middle = column + QUIET_ZONE_MODULES, row_index + QUIET_ZONE_MODULES + 0.5
                if not strokes:
                    strokes.append(f"M{left} {middle}h{length}")
                else:
                    strokes.append(f"m{left - x:g} {middle - y:g}h{length}")
                x, y = left + length, middle
            column += length
    return "".join(strokes)
