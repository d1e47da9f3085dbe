"""Training and evaluation of this project. The only file here that knows how they are called."""

from benchmarks.gate import Case, Gate
from benchmarks.workload import Workload
from lora_replication.encoders import locate_encoder
from lora_replication.process import keep_freed_memory
from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.loop import compute_reproducibly, new_state, train_step


class Ours:
    """A classifier and the state of its training for one case."""

    def __init__(self, case: Case, workload: Workload) -> None:
        keep_freed_memory()  # as every command of the project does
        self.workload = workload
        self.classifier = Classifier(locate_encoder(case.model), case.settings, seed=1)
        self.state = new_state(self.classifier, 0)

    def train(self, gate: Gate) -> None:
        """Train, as ``lora_replication.training`` does, until the gate ends it."""
        compute_reproducibly()
        self.classifier.start_epoch(1)
        gate.wait()
        while True:
            for rows in self.workload.rows():
                train_step(
                    self.classifier,
                    [self.state],
                    collate(self.workload.random, rows, self.classifier.device),
                )
                gate.batch_done()

    def evaluate(self, gate: Gate) -> None:
        """Evaluate all reviews of a turn at once until the gate ends it."""
        gate.wait()
        while True:
            predict_logits(self.classifier, self.workload.random)
            gate.batch_done(self.workload.batches)
