from pathlib import Path
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import blend
from pipeline.config import Blend
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.schema import QRELS, RUN, check

SPEC = Blend(rounds=20, min_rows=5)
CANDIDATES = range(100, 110)


def planted(seed: int, queries: int = 80, hidden: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and qrels: `signal` is 2 higher at the gold, or null for a share `hidden` of the queries; the rest is noise."""
    rng, rows, golds = Random(seed), [], []
    for number in range(queries):
        gold, blind = rng.choice(CANDIDATES), rng.random() < hidden
        golds.append((f"{number:03}_A", gold))
        for label in CANDIDATES:
            signal = None if blind else rng.random() + 2 * (label == gold)
            rows.append((f"{number:03}_A", label, rng.random(), signal, rng.randrange(9)))
    columns = QRELS.columns | {"noise_score": pl.Float32(), "signal_score": pl.Float32(), "more_noise_rank": pl.Int32()}
    return pl.DataFrame(rows, columns, orient="row"), pl.DataFrame(golds, QRELS.columns, orient="row")


def shown(features: pl.DataFrame, qrels: pl.DataFrame) -> float:
    """MAP@25 on fresh queries of a booster fitted on these rows."""
    fresh, truth = planted(seed=99, hidden=0.0)
    ranking = blend.apply(blend.fit(features, qrels, SPEC), fresh.select(features.columns))
    return evaluate(ranking, truth, None)["map@25"].item()


def test_a_planted_signal_is_learned_and_noise_is_not() -> None:
    features, qrels = planted(seed=1)
    assert shown(features, qrels) > 0.98
    assert shown(features.drop("signal_score"), qrels) < 0.5


def test_a_signal_that_is_null_for_half_of_the_queries_is_learned_from_the_others() -> None:
    assert shown(*planted(seed=1, hidden=0.5)) > 0.95


def test_null_is_told_from_zero() -> None:
    features = pl.DataFrame({"query_id": ["1_A"] * 3, "label_id": [1, 2, 3], "score": [None, 0, 7]})
    assert str(blend.matrix(features, ["score"]).tolist()) == "[[nan], [0.0], [7.0]]"


def test_the_blend_is_a_run_over_exactly_the_pairs_given() -> None:
    features, qrels = planted(seed=1)
    scored = check(blend.apply(blend.fit(features, qrels, SPEC), features), RUN)
    assert_frame_equal(scored.select(*QRELS.columns), features.select(*QRELS.columns), check_row_order=False)


def test_equal_rows_and_seed_give_equal_trees_and_another_seed_others() -> None:
    features, qrels = planted(seed=1)
    first, again = (blend.fit(features, qrels, SPEC).model_to_string() for _ in range(2))
    assert first == again
    assert blend.fit(features, qrels, SPEC.model_copy(update={"seed": 1})).model_to_string() != first


def test_shuffled_rows_are_fitted_to_the_same_trees() -> None:
    features, qrels = planted(seed=1)
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=4) for frame in (features, qrels)]
    assert blend.fit(*shuffled, SPEC).model_to_string() == blend.fit(features, qrels, SPEC).model_to_string()


def test_shuffled_rows_are_scored_alike() -> None:
    features, qrels = planted(seed=1)
    booster = blend.fit(features, qrels, SPEC)
    assert_frame_equal(blend.apply(booster, features.reverse()), blend.apply(booster, features))


def test_columns_may_be_ordered_otherwise_and_more_than_were_fitted() -> None:
    features, qrels = planted(seed=1)
    booster = blend.fit(features, qrels, SPEC)
    wider = features.select(*reversed(features.columns), pl.lit(1).alias("new"))
    assert_frame_equal(blend.apply(booster, wider), blend.apply(booster, features))


def test_a_missing_feature_column_is_refused_by_name() -> None:
    features, qrels = planted(seed=1)
    booster = blend.fit(features, qrels, SPEC)
    with pytest.raises(InputError, match=r"\['signal_score'\].*\n.*wanted"):
        blend.apply(booster, features.drop("signal_score"))


@pytest.mark.parametrize("labels", [[], [10**6]], ids=["no label", "a label outside the candidates"])
def test_queries_without_their_gold_among_the_candidates_teach_nothing(labels: list[int]) -> None:
    features, qrels = planted(seed=1)
    strangers = planted(seed=2)[0].with_columns(pl.col("query_id").str.replace("_A", "_B"))
    golds = strangers.select("query_id").unique().join(pl.DataFrame({"label_id": labels}, {"label_id": pl.Int32}), how="cross")
    taught = blend.fit(features, qrels, SPEC).model_to_string()
    assert blend.fit(pl.concat([strangers, features]), pl.concat([qrels, golds]), SPEC).model_to_string() == taught


def test_no_query_with_its_gold_is_refused() -> None:
    features, qrels = planted(seed=1)
    with pytest.raises(InputError, match="no query whose label is among its candidates"):
        blend.fit(features, qrels.with_columns(label_id=pl.lit(1, pl.Int32)), SPEC)


def test_the_text_model_scores_as_the_fitted_one(tmp_path: Path) -> None:
    from lightgbm import Booster

    features, qrels = planted(seed=1, hidden=0.3)
    booster = blend.fit(features, qrels, SPEC)
    booster.save_model(tmp_path / "booster.txt")
    assert (tmp_path / "booster.txt").read_text("utf-8").startswith("tree\n")
    assert_frame_equal(
        blend.apply(Booster(model_file=tmp_path / "booster.txt"), features), blend.apply(booster, features), check_exact=True
    )
