"""The trainer around a loss: sentence-transformers' own, with checkpoints by the clock and only whole ones resumed."""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.sampler import BatchSamplers, DefaultBatchSampler
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from pipeline.config import Training
from pipeline.errors import InputError
from pipeline.models import memory
from pipeline.models.device import best_dtype, device

log = logging.getLogger(__name__)

STATE = "trainer_state.json"  # the last file of a checkpoint


@dataclass(frozen=True)
class Task:
    """What a recipe makes of the rows: a loss, the trainer's columns, how a batch is put together (None: its own way), and
    whether the rows come in this order or shuffled."""

    loss: torch.nn.Module
    columns: dict[str, list[Any]]
    collator: Any = None
    ordered: bool = False


class Places:
    """A collator for a loss that holds what is learnt: a batch is its places there, named as the trainer knows inputs."""

    valid_label_columns: tuple[str, ...] = ()

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        """One tensor (rows,)."""
        return {"at_input_ids": torch.tensor([row["place"] for row in rows])}


def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **_: Any) -> DefaultBatchSampler:
    """Batches of the rows as they stand."""
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer; a checkpoint of an adapter is laid on the model that is there already."""

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        adapter = Path(checkpoint_path) / "adapter_model.safetensors"
        if not adapter.is_file():
            super()._load_from_checkpoint(checkpoint_path)
            return
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(self.model[0].model, load_file(adapter))


class Clock(TrainerCallback):
    """Asks for a checkpoint every so many minutes, and sums gradients over processes.

    The loss calls the model's inner layers, which a distributed wrapper does not see; so its gradients are summed here.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.last = minutes, time.monotonic()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Average each gradient over the processes."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for weight in model.parameters():
                if weight.grad is not None:
                    torch.distributed.all_reduce(weight.grad)
                    weight.grad /= torch.distributed.get_world_size()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Set `should_save` when the time has come."""
        if time.monotonic() - self.last > 60 * self.minutes:
            self.last, control.should_save = time.monotonic(), True
        return control


def last_whole(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end; cut-off ones are removed."""
    whole = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            whole[json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"]] = checkpoint
        except (OSError, ValueError, KeyError):
            log.warning("%s was cut off: removed", checkpoint)
            shutil.rmtree(checkpoint)
    return str(whole[max(whole)]) if whole else None


def run(model: SentenceTransformer, task: Task, evaluator: BaseEvaluator | None, spec: Training, folder: Path) -> None:
    """Train `model`, from the last whole checkpoint in `folder` if there is one; it comes back in eval mode.

    Raises `InputError` when memory runs out.
    """
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=spec.batch,
        gradient_accumulation_steps=spec.accumulate,
        learning_rate=spec.learning_rate,
        warmup_steps=spec.warmup,
        weight_decay=spec.weight_decay,
        lr_scheduler_type="linear",
        batch_sampler=in_order if task.ordered else BatchSamplers.BATCH_SAMPLER,
        bf16=best_dtype() == "bfloat16",
        fp16=best_dtype() == "float16",
        gradient_checkpointing=spec.checkpointing,
        save_strategy="no",  # the clock saves
        save_total_limit=2,
        eval_strategy="epoch" if evaluator else "no",
        logging_steps=10,
        report_to=list(spec.report_to) or "none",
        disable_tqdm=False,
        dataloader_pin_memory=False,
        use_cpu=device() == "cpu",
        seed=spec.seed,
    )
    trainer = Trainer(
        model,
        settings,
        train_dataset=Dataset.from_dict(task.columns),
        loss=task.loss,
        data_collator=task.collator,
        evaluator=evaluator,
        callbacks=[Clock(spec.checkpoint_minutes)],
    )
    checkpoint = last_whole(folder)
    if checkpoint:
        log.info("going on from %s", checkpoint)
    try:
        with memory.pages_kept():
            trainer.train(resume_from_checkpoint=checkpoint)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise InputError(
            f"training on {device()}",
            found=str(error).splitlines()[0],
            wanted="memory for a step",
            remedy=f"Lower {spec.room}.batch and raise {spec.room}.accumulate, set {spec.room}.checkpointing=true, "
            f"or raise {spec.room}.frozen.",
        ) from None
    model.eval()
