"""A study as plain data: what the page's pictures, tables and browser show. It knows no HTML but the texts'."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from markupsafe import escape

from pipeline.metrics import CUTOFF, LADDER, compare, interval, per_query
from pipeline.report.latex import html
from pipeline.runs import ranked, top_k
from pipeline.schema import QRELS
from pipeline.study import Study

SUBJECTS = 20  # the most frequent ones are shown
FEATURES = 30  # those with the most gain
BINS = 10
SHOWN = 10  # candidates a stage
KEY = list(QRELS.key)


@dataclass
class Texts:
    """Every text of the page once; what shows one names its number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """The text's place in `rows`."""
        return self.numbers.setdefault(text, len(self.numbers))

    def rows(self) -> list[list[str]]:
        """The source and, where it is more than that, the HTML of each."""
        return [[text] if (made := html(text)) == escape(text) else [text, made] for text in self.numbers]


def final(study: Study) -> str:
    """The stage to submit: the last."""
    return list(study.stages)[-1]


def scores(study: Study) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The study's rows of scores, by stage and subset."""
    told: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in study.scores:
        told.setdefault(row["stage"], {})[row["subset"]] = row
    return told


def figures(name: str, study: Study) -> dict[str, Any]:
    """What the sections above the browser tell of one study."""
    told, asked = scores(study), study.queries.join(study.qrels, on="query_id", how="semi")
    return {
        "name": name,
        "config": study.config.name,
        "final": final(study),
        "questions": asked["question_id"].n_unique(),
        "answers": asked.height,
        "unseen": 1 - study.seen["query_id"].n_unique() / asked.height,
        "scores": told,
        "folds": study.folds,
        "wanted": study.config.fit.unseen,
        "ladder": {stage: [(k, row["all"][f"recall@{k}"]) for k in LADDER] for stage, row in told.items()},
        "subjects": subjects(study),
        "subjects_in_all": asked["subject"].n_unique(),
        "calibration": calibration(study),
        "importance": sorted(study.importance, key=lambda row: -row["gain"])[:FEATURES],
        "features": len(study.importance),
        "gain": sum(row["gain"] for row in study.importance),
        "shift": curves(study.shift),
    }


def subjects(study: Study) -> list[dict[str, Any]]:
    """The final stage's score on each of the most frequent subjects, worst first."""
    values = per_query(study.stages[final(study)], study.qrels).join(study.queries.select("query_id", "subject"), on="query_id")
    largest = values.group_by("subject").len().sort("len", "subject", descending=[True, False]).head(SUBJECTS)
    rows = []
    for subject in largest["subject"]:
        part = values.filter(pl.col("subject") == subject)
        low, high = interval(part)
        means = part.select(pl.col("ap", "recall@25").mean()).row(0, named=True)
        rows.append({"subject": subject, "queries": part.height, "map@25": means.pop("ap"), "low": low, "high": high, **means})
    return sorted(rows, key=lambda row: (row["map@25"], row["subject"]))


def calibration(study: Study) -> list[dict[str, float]]:
    """How sure the final stage is of its first candidate, and how often it is right.

    Sure is the softmax of its scores within the query. A row each of ten equal bins that is not empty: queries, sure (mean),
    right (share).
    """
    known = study.stages[final(study)].join(study.qrels, on="query_id", how="semi")
    weight = (pl.col("score").cast(pl.Float64) - pl.col("score").max().over("query_id")).exp()
    firsts = ranked(known.with_columns(sure=weight / weight.sum().over("query_id"))).filter(pl.col("rank") == 1)
    bins = (
        firsts.join(study.qrels.with_columns(right=1.0), on=KEY, how="left")
        .group_by((pl.col("sure") * BINS).floor().clip(upper_bound=BINS - 1).alias("bin"))
        .agg(pl.len().alias("queries"), pl.col("sure").mean(), pl.col("right").fill_null(0.0).mean())
    )
    return bins.sort("bin").drop("bin").to_dicts()


def curves(shift: Iterable[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """The rows of `Study.shift` as one curve a way of ranking, without shares of which nothing is known."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in shift:
        for way, score in row.items():
            if way != "share" and math.isfinite(score):
                lines.setdefault(way, []).append((row["share"], score))
    return lines


def compared(studies: Mapping[str, Study]) -> list[dict[str, Any]]:
    """The final stages of the first study and of each other one, over the answers that both hold."""
    (first, one), *others = studies.items()
    rows = []
    for name, other in others:
        both = one.qrels.join(other.qrels, on=KEY, how="semi")
        row = {"first": first, "other": name, "answers": both["query_id"].n_unique()}
        if both.height:
            row |= compare(one.stages[final(one)], other.stages[final(other)], both)
        rows.append(row)
    return rows


def places(study: Study) -> pl.DataFrame:
    """The rank of each gold at each stage, null where the stage does not hold it: query_id, label_id, a column a stage."""
    golds = study.qrels
    for stage, ranking in study.stages.items():
        golds = golds.join(ranked(ranking).select(*KEY, pl.col("rank").alias(stage)), on=KEY, how="left", maintain_order="left")
    return golds


def marks(study: Study, golds: pl.DataFrame) -> pl.DataFrame:
    """What the browser filters by: `query_id` and a Boolean column a mark, of the best gold of `places`.

    The pool is the first stage after the retrievers; a later stage loses a query when the pool had its gold among the 25 and
    it ranks it lower.
    """
    names = list(study.stages)
    pool, *later = [stage for stage in names if stage not in study.config.retrieve] or names[-1:]
    best = golds.group_by("query_id", maintain_order=True).agg(pl.col(names).min())
    seen = pl.col("query_id").is_in(study.seen["query_id"].implode())
    at_one, had = pl.col(names[-1]).eq(1).fill_null(False), (pl.col(pool) <= CUTOFF).fill_null(False)
    told = {"seen": seen, "unseen": ~seen, "right at 1": at_one, "wrong at 1": ~at_one}
    told["never retrieved"] = pl.col(pool).is_null()
    for stage in later:
        told[f"lost by {stage}"] = had & (pl.col(stage).is_null() | (pl.col(stage) > pl.col(pool)))
    return best.select("query_id", **told)


def browser(name: str, study: Study, texts: Texts) -> dict[str, Any]:
    """The queries with known answers, each with its marks, golds and the best candidates of every stage; texts as numbers."""
    golds = places(study)
    marked = marks(study, golds)
    names = [mark for mark in marked.columns[1:] if marked[mark].any()]
    chosen = dict(zip(marked["query_id"], marked.select(names).rows(), strict=True))
    ranks: dict[str, list[list[int | None]]] = {}
    for query, *row in golds.rows():
        ranks.setdefault(query, []).append(row)
    score = dict(per_query(study.stages[final(study)], study.qrels).select("query_id", "ap").rows())
    tops = {stage: _tops(ranking.join(study.qrels, on="query_id", how="semi")) for stage, ranking in study.stages.items()}
    queries = [
        {
            "id": row["query_id"],
            "construct": row["construct"],
            "subject": row["subject"],
            **{part: texts.number(row[part]) for part in ("question", "correct", "wrong")},
            "ap": round(score[row["query_id"]], 4),
            "marks": [i for i, given in enumerate(chosen[row["query_id"]]) if given],
            "golds": ranks[row["query_id"]],
            "tops": [top.get(row["query_id"], [[], []]) for top in tops.values()],
        }
        for row in study.queries.join(study.qrels, on="query_id", how="semi", maintain_order="left").iter_rows(named=True)
    ]
    used = {gold[0] for query in queries for gold in query["golds"]}.union(
        label for query in queries for labels, _ in query["tops"] for label in labels
    )
    labels = {label_id: texts.number(label) for label_id, label in study.catalog.iter_rows() if label_id in used}
    return {"name": name, "stages": list(study.stages), "marks": names, "labels": labels, "queries": queries}


def _tops(ranking: pl.DataFrame) -> dict[str, list[list[float]]]:
    """A query's best labels and their scores."""
    best = top_k(ranking, SHOWN).with_columns(pl.col("score").cast(pl.Float64).round_sig_figs(4))
    return {
        query: [labels, values]
        for query, labels, values in best.group_by("query_id", maintain_order=True).agg("label_id", "score").rows()
    }
