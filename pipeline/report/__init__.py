"""Studies as one HTML page that needs neither network nor server: scores, what they hide, and a browser of queries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.content import Texts, browser, compared, figures
from pipeline.study import Study


def build(studies: Mapping[str, Study]) -> str:
    """The page of one study or more, each under its name; the first is what the others are compared with."""
    shelf = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    texts = Texts()
    parts = [browser(name, study, texts) for name, study in studies.items()]
    script = _file(shelf, "script.js")
    return shelf.get_template("page.html").render(
        studies=[figures(name, study) for name, study in studies.items()],
        comparisons=compared(studies),
        charts=charts,
        content=htmlsafe_json_dumps({"studies": parts, "texts": texts.rows()}, ensure_ascii=False, separators=(",", ":")),
        style=_file(shelf, "style.css"),
        script=script,
        # the browser runs this script and no other, whatever a text may hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _file(shelf: Environment, name: str) -> Markup:
    """A file of the package, word for word."""
    assert shelf.loader is not None
    return Markup(shelf.loader.get_source(shelf, name)[0])
