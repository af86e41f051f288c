"""Ray Data: tasks over a pool of workers, on the cluster at $RAY_ADDRESS, or on one of this machine that ends with us.

It knows no model. A worker that is killed, or whose machine is, is started anew by Ray and asked the same again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import EngineDied

if TYPE_CHECKING:
    import pyarrow as pa

Make = Callable[[], Callable[..., np.ndarray]]  # called on each worker, gives what is called with a task's parts


class Worker:
    """What `make()` gives, for tables of one task."""

    def __init__(self, make: Make) -> None:
        self.answer = make()

    def __call__(self, table: pa.Table) -> pa.Table:
        """The task's number, and its rows."""
        import pyarrow as pa

        (task,) = table.to_pylist()
        rows = self.answer(*json.loads(task["parts"]))
        return pa.table({"number": [task["number"]], "rows": [rows.tolist()]})


def spread(
    make: Make, tasks: Sequence[Sequence[list[str]]], workers: int, ray_args: Mapping[str, Any]
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each task and what `make()`, called on a worker, gives for its parts: as soon as it is there, in any order.

    `ray_args` are Ray's own for each worker; without any it gets a GPU where the cluster has some. Raises `EngineDied`
    where there is no cluster, where a worker raises, and where none gets on for half an hour (Ray's own patience).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    try:
        ray.init(ignore_reinit_error=True, include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpus = {"num_gpus": 1} if "GPU" in ray.cluster_resources() else {}
        rows = [{"number": number, "parts": json.dumps(task)} for number, task in enumerate(tasks)]
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=(make,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            **{**gpus, **ray_args},
        )
        for table in answers.iter_batches(batch_size=1, batch_format="pyarrow"):
            yield table["number"][0].as_py(), np.array(table["rows"][0].as_py(), np.float32)
    except BaseException as error:
        ray.shutdown()  # whatever ended it: else the workers stay, and hold their GPUs
        if isinstance(error, RayError | ExecutionTimeoutError | ConnectionError):
            raise EngineDied(f"Ray: {error}") from None
        raise
