"""The report: its numbers against hand counts, and the page, with hostile texts, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest

from pipeline import flow, scoring, study
from pipeline.config import Config, load
from pipeline.data import queries_of
from pipeline.metrics import LADDER, evaluate
from pipeline.report import build
from pipeline.report.content import Texts, browser, calibration, compared, curves, figures, marks, places, subjects
from pipeline.runs import run
from pipeline.sample import opened
from pipeline.schema import CATALOG, QRELS, QUERIES, RUN
from pipeline.store import Store
from pipeline.study import Study

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\"><b id=injected>\\( <script>document.title='owned'</script> \\)"
)
Eedi = Callable[..., CompletedProcess[str]]
Stage = dict[str, dict[int, float]]


def study_of(golds: dict[str, int], seen: set[str], subject: dict[str, str] | None = None, **stages: Stage) -> Study:
    """A study of the queries `golds`, a gold each; a stage maps queries to the scores of labels."""
    texts = dict.fromkeys(QUERIES.columns, "text")
    queries = [texts | {"query_id": id, "question_id": id[:-2], "subject": (subject or {}).get(id, "sums")} for id in golds]
    qrels = pl.DataFrame(list(golds.items()), schema=QRELS.columns, orient="row")
    shown = qrels.filter(pl.col("query_id").is_in(list(seen)))
    rankings = {
        name.replace("_", " "): run(
            pl.DataFrame(
                [(id, *pair) for id, pairs in each.items() for pair in pairs.items()], schema=RUN.columns, orient="row"
            )
        )
        for name, each in stages.items()
    }
    scores = [
        {"stage": name, "seconds": 1.5, "kept": False} | row
        for name, ranking in rankings.items()
        for row in evaluate(ranking, qrels, shown).to_dicts()
    ]
    catalog = pl.DataFrame([(i, f"label {i}") for i in range(100)], schema=CATALOG.columns, orient="row")
    return Study(Config(), pl.DataFrame(queries, schema=QUERIES.columns), catalog, qrels, shown, rankings, scores)


def order(*labels: int) -> dict[int, float]:
    return {label: -float(rank) for rank, label in enumerate(labels)}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The embedded competition, scored without weights, with texts that would break a careless page."""
    settings = load(HASHED, ["sample.train=60", "sample.test=15"])
    competition = opened(settings, None)
    assert competition.truth is not None and competition.train_qrels is not None
    catalog = competition.catalog.with_columns(
        label=pl.when(pl.col("label_id") == competition.truth["label_id"][0]).then(pl.lit(HOSTILE)).otherwise("label")
    )
    queries, qrels = queries_of(competition.test), competition.truth
    first = pl.col("question_id") == queries["question_id"][0]
    formula = HOSTILE + r" \( \frac{1}{2} \) ![a circle]() \begin{tabular}{|c|}\hline 7 \\\end{tabular}"
    queries = queries.with_columns(
        subject=pl.when(first).then(pl.lit(HOSTILE)).otherwise("subject"),
        question=pl.when(first).then(pl.lit(formula)).otherwise(pl.col("question") + r" \( \sqrt{2} \)"),
    )
    changed, store = replace(competition, catalog=catalog), Store(tmp_path_factory.mktemp("store"))
    done = scoring.pooled(queries, changed, settings, store)
    scoring.reranked(done, queries, changed, settings, store)
    seen = qrels.join(competition.train_qrels, on="label_id", how="semi")
    importance = [{"feature": HOSTILE, "group": "scores", "gain": 2.0, "permutation": 0.1}]
    folds = [{"fold": 0, "questions": 14, "answers": 33, "unseen": 0.625}]
    shift = [{"share": share, HOSTILE: 0.3 - share / 10, "corrected": 0.25} for share in (0.0, 0.5, 0.9)]
    scores = flow.table(done, qrels, seen)
    return Study(settings, queries, catalog, qrels, seen, done.stages, scores, folds, importance, shift)


@pytest.fixture(scope="module")
def page(real: Study) -> str:
    return build({"one": real, HOSTILE: real})


def test_the_head_counts_questions_answers_and_the_unseen_share() -> None:
    told = figures(
        "a", study_of({"1_A": 1, "1_B": 2, "2_A": 3, "3_A": 4}, {"2_A"}, dense={"1_A": order(1)}, blend={"1_A": order(1)})
    )
    assert (told["questions"], told["answers"], told["unseen"], told["final"]) == (3, 4, 0.75, "blend")
    assert told["scores"]["blend"]["unseen"]["map@25"] == pytest.approx(1 / 3)


def test_the_ladder_is_each_stages_recall() -> None:
    told = figures("a", study_of({"1_A": 1, "2_A": 1}, set(), dense={"1_A": order(1), "2_A": order(9, 8, 1)}))
    assert told["ladder"] == {"dense": [(k, 0.5 if k == 1 else 1.0) for k in LADDER]}


def test_subjects_come_worst_first_with_their_counts() -> None:
    golds, subject = {"1_A": 1, "2_A": 1, "3_A": 1}, {"1_A": "good", "2_A": "good", "3_A": "bad"}
    told = subjects(study_of(golds, set(), subject, dense={"1_A": order(1), "2_A": order(5, 1), "3_A": order(5, 6, 7, 1)}))
    assert [(row["subject"], row["queries"], row["map@25"]) for row in told] == [("bad", 1, 0.25), ("good", 2, 0.75)]
    assert told[1]["low"] == 0.5 and told[1]["high"] == 1.0


def test_calibration_is_the_softmax_of_the_first_candidate_against_how_often_it_is_right() -> None:
    three, equal = {1: math.log(3), 2: 0.0}, {1: 0.0, 2: 0.0, 3: 0.0}
    scores = {"1_A": three, "2_A": three, "3_A": equal, "4_A": {1: 0.0}, "5_A": {1: math.log(19), 2: 0.0}}
    assert calibration(study_of({"1_A": 1, "2_A": 2, "3_A": 1, "4_A": 1, "5_A": 1, "6_A": 1}, set(), dense=scores)) == [
        {"queries": 1, "sure": pytest.approx(1 / 3), "right": 1.0},
        {"queries": 2, "sure": pytest.approx(3 / 4), "right": 0.5},
        {"queries": 2, "sure": pytest.approx(0.975), "right": 1.0},  # 1 belongs to the last bin
    ]


def test_marks_say_which_stage_lost_what_and_what_no_stage_had() -> None:
    pool = list(range(10, 40))
    held = study_of(
        dict.fromkeys(("first_A", "lower_A", "out_A", "deep_A", "never_A"), 1),
        {"first_A"},
        dense={id: order(1, *pool) for id in ("first_A", "lower_A", "out_A", "never_A")} | {"deep_A": order(*pool, 1)},
        pool={id: order(1, *pool) for id in ("first_A", "lower_A", "out_A")}
        | {"deep_A": order(*pool, 1), "never_A": order(*pool)},
        judge={
            "first_A": order(1, *pool),
            "lower_A": order(10, 1),
            "out_A": order(*pool, 1),
            "deep_A": order(*pool, 50, 1),
            "never_A": order(*pool),
        },
        blend={id: order(1, *pool) for id in ("first_A", "lower_A", "deep_A")}
        | {"out_A": order(10, 1), "never_A": order(*pool)},
    )
    told = marks(held, places(held))
    sets = {mark: {id[:-2] for id in told.filter(pl.col(mark))["query_id"]} for mark in told.columns[1:]}
    assert sets == {
        "seen": {"first"},
        "unseen": {"lower", "out", "deep", "never"},
        "right at 1": {"first", "lower", "deep"},
        "wrong at 1": {"out", "never"},
        "never retrieved": {"never"},
        "lost by judge": {"lower", "out"},  # a gold beyond the 25 was not there to lose
        "lost by blend": {"out"},  # against the pool, not the judge
    }


def test_the_browser_holds_ranks_and_the_ten_best_of_each_stage_and_each_text_once() -> None:
    texts = Texts()
    told = browser(
        "a", study_of({"1_A": 3, "2_A": 3}, {"1_A"}, lexical={"1_A": order(*range(30))}, blend={"1_A": order(3)}), texts
    )
    one, two = told["queries"]
    assert told["stages"] == ["lexical", "blend"] and one["golds"] == [[3, 4, 1]] and two["golds"] == [[3, None, None]]
    assert one["tops"] == [[list(range(10)), [-float(i) for i in range(10)]], [[3], [0.0]]] and two["tops"] == [[[], []]] * 2
    assert [told["marks"][i] for i in one["marks"]] == ["seen", "right at 1"] and (one["ap"], two["ap"]) == (1.0, 0.0)
    assert set(told["labels"]) == set(range(10)) and [row[0] for row in texts.rows()].count("text") == 1


def test_a_share_of_which_nothing_is_known_makes_a_gap_and_no_fault() -> None:
    assert curves([{"share": 0.0, "a": math.nan, "b": math.nan}, {"share": 0.5, "a": 0.2, "b": math.nan}]) == {
        "a": [(0.5, 0.2)]
    }


def test_two_studies_are_compared_over_the_answers_that_both_hold() -> None:
    one = study_of({"1_A": 1, "2_A": 1, "9_A": 1}, set(), blend={"1_A": order(5, 1), "2_A": order(1)})
    other = study_of({"1_A": 1, "2_A": 1, "8_A": 1}, set(), blend={"1_A": order(1), "2_A": order(1)})
    (told,) = compared({"one": one, "other": other})
    assert (told["answers"], told["better"], told["same"], told["worse"]) == (2, 1, 1, 0)
    assert told["difference"] == pytest.approx(0.25) and told["low"] == 0.0 and told["high"] == pytest.approx(0.5)
    assert compared({"one": one}) == []


def test_studies_without_an_answer_in_common_make_a_page_that_says_so() -> None:
    one, other = (study_of({f"{i}_A": 1}, set(), blend={f"{i}_A": order(1)}) for i in (1, 2))
    assert "no answer in common" in build({"one": one, "other": other})


def test_the_page_holds_no_address_and_no_text_as_markup(page: str) -> None:
    assert not re.search(r"https?:|src=(?!x)|@import|url\(|<link|<img|<b id", page)
    assert page.count("<script") == 2 and page.count("</script>") == 2


def test_the_page_lets_the_browser_run_its_own_script_alone(page: str) -> None:
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    wanted = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{wanted}'" in page and "default-src 'none'" in page


def test_each_fold_is_shown_with_its_share_of_unseen_labels_beside_the_wanted_one(page: str) -> None:
    section = page[page.index('<section id="folds">') : page.index('<section id="ladder">')]
    assert "unseen, 65% wanted" in section
    assert re.findall(r'<td class="number">([^<]+)</td>', section) == ["0", "14", "33", "62.5%"] * 2


def test_sections_without_data_are_left_out(page: str) -> None:
    sections = ["stages", "folds", "ladder", "subjects", "calibration", "importance", "shift", "time", "compared", "browser"]
    assert re.findall(r'<section id="(\w+)"', page) == sections
    bare = build({"one": study_of({"1_A": 1}, set(), blend={"1_A": order(1)})})
    assert re.findall(r'<section id="(\w+)"', bare) == [
        each for each in sections if each not in ("folds", "importance", "shift", "compared")
    ]


def test_the_verb_writes_one_page_and_never_over_another(eedi: Eedi, tmp_path: Path) -> None:
    for name, golds in {"one": {"1_A": 1}, "other": {"1_A": 1, "2_A": 1}}.items():
        study.write(study_of(golds, set(), dense={"1_A": order(1)}), tmp_path / name)
    assert "one.html" in eedi("report", "one", "other").stdout
    assert "other against one" in (tmp_path / "one.html").read_text(encoding="utf-8")
    again = eedi("report", "one")
    assert again.returncode == 2 and "it exists" in again.stderr
    (tmp_path / "empty").mkdir()
    none = eedi("report", "empty", "--out", "new.html")
    assert none.returncode == 2 and "wanted: a study" in none.stderr and not (tmp_path / "new.html").exists()


@pytest.fixture(scope="module")
def browse(page: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The page's DOM at an address's end, as Chromium leaves it."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page, encoding="utf-8")
    quiet = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
    switches = [f"--{each}" for each in [*quiet.split(), "disable-sync", "virtual-time-budget=3000", "dump-dom"]]

    def call(end: str) -> str:
        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        address = (folder / "page.html").as_uri() + end
        return subprocess.run(
            [chromium, *switches, profile, address], capture_output=True, text=True, check=True, timeout=240
        ).stdout

    return call


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="content">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_a_browser_shows_a_query_and_runs_nothing_that_a_text_holds(browse: Callable[[str], str], page: str) -> None:
    queries = content_of(page)["studies"][0]["queries"]
    dom = browse(f"#{queries[0]['id']}")
    detail = dom[dom.index('<article id="detail">') : dom.index("</article>")]
    assert f"<h3>{queries[0]['id']}</h3>" in detail and "<mfrac>" in detail and 'class="tabular"' in detail
    assert detail.count("<li") == sum(len(top[0]) for top in queries[0]["tops"])
    assert re.search(r'<pre id="fault"[^>]* hidden=""></pre>', dom)
    assert "<title>owned" not in dom and '<b id="injected"' not in dom and "<img" not in dom
    assert dom.count('role="option"') == len(queries)


def test_the_addresss_filters_narrow_the_list(browse: Callable[[str], str], page: str) -> None:
    one = content_of(page)["studies"][0]
    wanted = [query["id"] for query in one["queries"] if {"unseen", "wrong at 1"} <= {one["marks"][i] for i in query["marks"]}]
    assert 0 < len(wanted) < len(one["queries"])
    dom = browse("#?mark=unseen&mark=wrong+at+1&order=given")
    assert re.findall(r'id="query-([^"]+)"', dom) == wanted and f"<h3>{wanted[0]}</h3>" in dom
