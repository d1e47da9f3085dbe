"""HF Trainer with PEFT as its users write it: dynamic padding, batches of similar length, fused
AdamW, mixed precision.
"""

import tempfile
from typing import Any

import peft
import transformers

from benchmarks.article import pretrained
from benchmarks.contenders import Case, Clock
from benchmarks.workload import BATCH_SIZE, reviews_in
from lora_replication.encoders import locate_encoder
from lora_replication.training.classifier import make_trainable


class HFTrainer:
    """The HF Trainer for one case; PEFT where the method is LoRA."""

    def __init__(self, case: Case) -> None:
        (settings,), encoder = case.settings, locate_encoder(case.model)
        self._reviews = reviews_in(case.reviews)
        model, layout = pretrained(encoder), encoder.layout
        if not settings.lora:
            make_trainable(model, layout, settings, 1, lambda _dropout: None)
        else:
            depth = getattr(model.config, layout.depth)
            # PEFT divides alpha by the rank, the article does not. Without a task type the head
            # stays frozen, as in the article.
            lora = peft.LoraConfig(
                r=settings.lora.rank,
                lora_alpha=settings.lora.alpha * settings.lora.rank,
                target_modules=[
                    name for each in settings.lora.targets for name in layout.linears(each, depth)
                ],
            )
            model = peft.get_peft_model(model, lora)
        self.model = model
        self.trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                tempfile.mkdtemp(),
                per_device_train_batch_size=BATCH_SIZE,
                per_device_eval_batch_size=BATCH_SIZE,
                # The workload's batches are what group_by_length makes, in its order.
                train_sampling_strategy="sequential",
                num_train_epochs=1,
                learning_rate=settings.learning_rate,
                lr_scheduler_type="constant",
                max_grad_norm=0.0,
                bf16=settings.precision == "bf16-mixed",
                fp16=settings.precision == "fp16-mixed",
                use_cpu=settings.device == "cpu",
                dataloader_pin_memory=settings.device == "cuda",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            data_collator=transformers.DataCollatorWithPadding(
                transformers.BertTokenizerFast(vocab=str(encoder.vocabulary))
            ),
            compute_metrics=_accuracy,
        )

    def _count(self, clock: Clock) -> list[dict[str, Any]]:
        callbacks = self.trainer.callback_handler.callbacks
        callbacks[:] = [each for each in callbacks if not isinstance(each, Ticks)]
        self.trainer.add_callback(Ticks(clock))
        count = clock.total * BATCH_SIZE
        return [dict(each) for each in (self._reviews * count)[:count]]

    def train(self, clock: Clock) -> None:
        """For the clock's batches."""
        self.trainer.train_dataset = self._count(clock)
        self.trainer.train()

    def evaluate(self, clock: Clock) -> None:
        """For the clock's batches."""
        reviews = self._count(clock)
        clock.batch_done(0)
        self.trainer.evaluate(reviews)


class Ticks(transformers.TrainerCallback):
    """Has a clock count the batches of the Trainer's loops."""

    def __init__(self, clock: Clock) -> None:
        self.on_train_begin = lambda *_, **__: clock.batch_done(0)
        self.on_step_end = self.on_prediction_step = lambda *_, **__: clock.batch_done()


def _accuracy(prediction: transformers.EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}
