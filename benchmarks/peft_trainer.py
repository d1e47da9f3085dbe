"""HF Trainer with PEFT as its users write it: dynamic padding, batches of similar length, fused
AdamW, mixed precision.
"""

import tempfile
from typing import Any

import peft
import transformers
from torch.utils.data import Dataset

from benchmarks.article import AGAIN, freeze, lora_sites, pretrained
from benchmarks.gate import Case, Gate
from benchmarks.workload import Workload
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import locate_encoder


class HFTrainer:
    """The HF Trainer for one case; PEFT where the method is LoRA."""

    def __init__(self, case: Case, workload: Workload) -> None:
        settings, encoder = case.settings, locate_encoder(case.model)
        model = pretrained(encoder)
        freeze(model, encoder, settings)
        if settings.lora:
            sites = lora_sites(model, encoder, settings)
            # PEFT divides alpha by the rank, the article does not. Without a task type the head
            # stays frozen, as in the article.
            lora = peft.LoraConfig(
                r=settings.lora.rank,
                lora_alpha=settings.lora.alpha * settings.lora.rank,
                target_modules=sites,
            )
            model = peft.get_peft_model(model, lora)
        self.model = model
        reviews = Reviews(workload.grouped)
        self.trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                tempfile.mkdtemp(),
                per_device_train_batch_size=workload.batch_size,
                per_device_eval_batch_size=workload.batch_size,
                # The workload's batches are what group_by_length makes, in its order.
                train_sampling_strategy="sequential",
                num_train_epochs=settings.epochs,
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
            train_dataset=reviews,
            eval_dataset=reviews,
            data_collator=transformers.DataCollatorWithPadding(
                transformers.BertTokenizerFast(vocab=str(encoder.vocabulary))
            ),
            compute_metrics=_accuracy,
        )

    def train(self, gate: Gate) -> None:
        """Train until the gate ends it."""
        self.trainer.add_callback(AtGate(gate))
        self.trainer.train()

    def evaluate(self, gate: Gate) -> None:
        """Evaluate until the gate ends it."""
        self.trainer.callback_handler.callbacks = [
            c for c in self.trainer.callback_handler.callbacks if not isinstance(c, AtGate)
        ]
        self.trainer.add_callback(AtGate(gate))
        gate.wait()
        self.trainer.evaluate()


class AtGate(transformers.TrainerCallback):
    """Takes the Trainer's loops through the gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first turn."""
        self._gate.wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After the optimizer's step."""
        self._gate.batch_done()

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """After a batch's logits are gathered."""
        self._gate.batch_done()


class Reviews(Dataset[dict[str, Any]]):
    """Reviews as lists of token ids, over and over."""

    def __init__(self, tokens: Tokens) -> None:
        self.examples = [
            {
                "input_ids": tokens.ids[start:end].tolist(),
                "attention_mask": [1] * int(end - start),
                "labels": int(label),
            }
            for start, end, label in zip(
                tokens.starts[:-1], tokens.starts[1:], tokens.labels, strict=True
            )
        ]

    def __len__(self) -> int:
        """Reviews, repetitions counted."""
        return AGAIN * len(self.examples)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """One review."""
        return dict(self.examples[place % len(self.examples)])


def _accuracy(prediction: transformers.EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}
