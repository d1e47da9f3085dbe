"""Training and evaluation of this project. The only file here that knows how they are called."""

import torch
import torch.nn.functional as F

from benchmarks.gate import Case, Gate
from benchmarks.workload import Workload
from lora_replication.checkpoints import State
from lora_replication.classifier import Classifier
from lora_replication.data.batches import collate
from lora_replication.encoders import locate_encoder
from lora_replication.evaluation import predict_logits


class Ours:
    """A classifier and the state of its training for one case."""

    def __init__(self, case: Case, workload: Workload) -> None:
        self.workload = workload
        self.classifier = Classifier(locate_encoder(case.model), case.settings, seed=1)
        parameters = self.classifier.trainable()
        optimizer = torch.optim.Adam(parameters.values(), lr=case.settings.learning_rate, fused=True)
        scaler = torch.amp.GradScaler(case.settings.device, enabled=case.settings.precision == "fp16-mixed")
        self.state = State(parameters, optimizer, scaler)

    def train(self, gate: Gate) -> None:
        """Train, as ``lora_replication.training`` does, until the gate ends it."""
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        self.classifier.start_epoch(1)
        gate.wait()
        while True:
            for rows in self.workload.rows():
                batch = collate(self.workload.random, rows, self.classifier.device)
                (logits,) = self.classifier.logits(batch)
                torch.autograd.backward(self.state.scaler.scale(F.cross_entropy(logits, batch.labels)))
                self.state.step()
                gate.batch_done()

    def evaluate(self, gate: Gate) -> None:
        """Evaluate all reviews of a turn at once until the gate ends it."""
        gate.wait()
        while True:
            predict_logits(self.classifier, self.workload.random)
            gate.batch_done(self.workload.batches)
