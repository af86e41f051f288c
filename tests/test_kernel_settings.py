"""kernel.yaml: what Kaggle would not take is refused by its key, and the example says everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.errors import InputError
from pipeline.kernel.settings import FILE, Settings, load


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("kernel: {slug: eedi-kernel, title: Another title}", "the slug 'another-title', not 'eedi-kernel'"),
        ("weights: {some/model: some/model/transformers/tiny}", "is not owner/model/framework/variation/version"),
        ("accelerator: NvidiaTeslaP100", "accelerator: Input should be 'NvidiaTeslaT4'"),
        ("dataset: {slug: a, title: A}", "dataset.slug: String should have at least 6"),
        ("internet: true", "internet: Extra inputs are not permitted"),
        ("owner: Not A Slug", "owner: String should match"),
        ("deadline: 85h", "deadline: '85h' is not a duration such as 8h30m, 12 hours at most"),
        ("deadline: '14:30'", "'14:30' is not a duration"),
        ("owner: [", "expected the node content"),
        ("- me", "valid dictionary"),
    ],
)
def test_settings_that_kaggle_would_not_take_are_refused_by_their_key(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "kernel.yaml"
    file.write_text(line if line.startswith(("owner", "-")) else f"owner: me\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load(file)
    assert told in str(refused.value) and str(file) in str(refused.value)


def test_the_example_says_every_setting_and_its_default() -> None:
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert written.keys() == Settings.model_fields.keys()
    assert load(FILE) == Settings(owner=written["owner"], weights=written["weights"])
