r"""A competition's text as HTML that needs no network: `\( \)` and `\[ \]` as MathML, tabulars as tables, images as described.

It trusts no text: what is not converted is shown as it was written, escaped, and what the converter made passes by a list.
"""

from __future__ import annotations

import re
from html import unescape
from xml.etree.ElementTree import Element, tostring

from markupsafe import Markup, escape

LONGEST = 4000  # characters of a formula that are still converted
MATH = r"\\\((?:.*?)\\\)|\\\[(?:.*?)\\\]"
GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
PARTS = re.compile(
    rf"(?P<math>{MATH})|!\[(?P<image>.*?)\]\([^()\s]*\)|\\begin\{{tabular\}}(?:{GROUP})?(?P<table>.*?)\\end\{{tabular\}}",
    re.DOTALL,
)
MARKS = re.compile(rf"{MATH}|\\[&]|(?P<row>\\\\|\\hline)|(?P<cell>&)", re.DOTALL)
SPAN = re.compile(rf"\s*\\multicolumn\s*\{{(?P<columns>[1-9])\}}\s*{GROUP}\s*\{{(?P<text>.*)\}}\s*", re.DOTALL)
ESCAPED = re.compile(r"\\([%$&#_])")  # in running text
MACRO = re.compile(r"\\(?:(?:re|provide)?newcommand|[egx]?def|let)\b")  # it can grow without end
TAGS = re.compile(
    "math|mrow|mi|mn|mo|mtext|mspace|mstyle|mfrac|msqrt|mroot|msup|msub|msubsup|mover|munder|munderover|mtable|mtr|mtd|menclose"
    "|mpadded|mphantom"
)
ATTRIBUTES = re.compile(
    "display|mathvariant|stretchy|fence|form|columnalign|rowlines|columnlines|width|height|depth|displaystyle|scriptlevel"
    "|linethickness|accent|notation|minsize|maxsize|mathcolor|movablelimits|largeop"
)


def html(text: str) -> Markup:
    """The text with formulas, tables and images' descriptions rendered. It never raises."""
    done, position = Markup(""), 0
    for part in PARTS.finditer(text):
        done += _running(text[position : part.start()])
        position = part.end()
        if part["math"]:
            done += mathml(part["math"][2:-2], "block" if part["math"].startswith(r"\[") else "inline")
        elif part["table"] is not None:
            done += _table(part["table"])
        else:
            done += Markup('<span class="image">{}</span>').format(html(part["image"]))
    return done + _running(text[position:])


def mathml(latex: str, display: str = "inline") -> Markup:
    """The formula as MathML or, where that cannot be made, its source."""
    from latex2mathml.converter import Converter

    if not latex.strip():
        return Markup("")
    gaps = re.sub("_{2,}", lambda line: r"\_" * len(line[0]), latex)  # "____" is a gap to fill in, not a subscript
    try:
        if len(latex) > LONGEST or MACRO.search(latex):
            raise ValueError("not worth the risk")
        # not convert(): it takes the escapes out of its own XML
        return _safe(Converter(display=display).convert_to_element(gaps))
    except Exception:  # the converter raises what it likes, up to RecursionError
        return Markup('<code class="source">{}</code>').format(latex.strip())


def _safe(math: Element) -> Markup:
    """The element as markup: listed tags and attributes alone, texts escaped. Raises `ValueError` for another tag."""
    for each in math.iter():
        if not TAGS.fullmatch(each.tag):
            raise ValueError(f"<{each.tag}>")
        each.attrib = {name: value for name, value in each.attrib.items() if ATTRIBUTES.fullmatch(name)}
        each.text = unescape(each.text or "")
    return Markup(tostring(math, encoding="unicode"))


def _running(text: str) -> Markup:
    return escape(ESCAPED.sub(r"\1", text))


def _table(body: str) -> Markup:
    """A tabular's body as a table; a line ends its row also where its author forgot to."""
    rows: list[list[str]] = [[""]]
    position = 0
    for mark in MARKS.finditer(body):
        rows[-1][-1] += body[position : mark.start()]
        position = mark.end()
        if mark["row"]:
            rows.append([""])
        elif mark["cell"]:
            rows[-1].append("")
        else:
            rows[-1][-1] += mark[0]
    rows[-1][-1] += body[position:]
    lines = [Markup("").join(map(_cell, row)) for row in rows if any(cell.strip() for cell in row)]
    return Markup('<table class="tabular">{}</table>').format(Markup("").join(map(Markup("<tr>{}</tr>").format, lines)))


def _cell(text: str) -> Markup:
    if span := SPAN.fullmatch(text):
        return Markup('<td colspan="{}">{}</td>').format(span["columns"], html(span["text"]))
    return Markup("<td>{}</td>").format(html(text.strip()))
