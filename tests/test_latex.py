"""Texts of questions as HTML: what is converted, what is shown as it was written, and what no text may become."""

from __future__ import annotations

import re

import pytest

from pipeline.report.latex import LONGEST, html


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"\( \frac{1}{2} \)", "<mfrac>.*<mn>1</mn>.*<mn>2</mn>"),
        (r"\[ 3 \mathrm{~cm} \]", '<math display="block">.*cm|<math display="block">.*>c<.*>m<'),
        (r"\( £ 5 \) and \( \bigstar \)", "£.*★"),
        (r"\( \text{ goat \& } a<b \)", "goat.*&lt;"),
        (r"\( = \_\_ ____ \)", "<math"),
        (r"cut 5\% off", r"^cut 5% off$"),
        ("![two (2) [red] bars]()", r"^<span class=.image.>two \(2\) \[red\] bars</span>$"),
        (r"\begin{tabular}{|c|c|}\hline a & \( x \) \\ \hline b\end{tabular}", "<td>a</td><td><math.*</td></tr><tr><td>b</td>"),
        (r"\begin{tabular}{c}\( \begin{array}{c}a & b \\ c\end{array} \)\end{tabular}", "<tr><td><math.*</math></td></tr>"),
        (r"\begin{tabular}{c}a \hline\multicolumn{2}{|c|}{ b }\end{tabular}", "<td>a</td></tr><tr><td colspan=.2.> b </td>"),
    ],
)  # fmt: skip
def test_what_stands_in_real_questions_is_rendered(text: str, wanted: str) -> None:
    assert re.search(wanted, html(text), re.DOTALL) and "source" not in html(text)


@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{1}",
        r"\left( x",
        "x^",
        "{" * 900,
        r"\newcommand{\a}{\a\a}\a",
        "x" * (LONGEST + 1),
        r"\begin{array}{c} a",
        "x^2^3^<b>",
    ],
)
def test_a_formula_that_cannot_be_converted_is_shown_as_it_was_written(latex: str) -> None:
    assert re.fullmatch("a (<code class=.source.>[^<>]*</code>|<math.*</math>) z", html(rf"a \({latex}\) z"), re.DOTALL)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        r"\( <script>alert(1)</script> \)",
        r"\( \text{<img src=x onerror=alert(1)>} \)",
        r"\( \href{javascript:alert(1)}{a} \style{position:fixed}{b} \class{x}{c} \)",
        r'\( \color{red" onclick="alert(1)}{a} \)',
        r"\( &lt;script&gt; \text{&#60;script&#62;} \)",
        '![<b>"]() ![x](javascript:alert(1))',
        r"\begin{tabular}{<b>}<i> & \multicolumn{2}{<b>}{<u>} \\ \end{tabular}",
    ],
)
def test_no_text_becomes_an_element_or_an_address_of_its_own(text: str) -> None:
    made = html(text)
    assert set(re.findall(r"<([a-z]+)", made)) <= {
        "math",
        "mrow",
        "mi",
        "mo",
        "mn",
        "mtext",
        "mstyle",
        "span",
        "code",
        "table",
        "tr",
        "td",
    }
    assert not re.search(r"<[^>]*\s(href|src|style|on\w+)=", re.sub('"[^"]*"', '""', made))
