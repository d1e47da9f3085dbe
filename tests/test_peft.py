"""The article's LoRA against Hugging Face PEFT's on the same weights: alpha times r, A and B
transposed, no task type.
"""

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F

from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import load_classifier
from tests.training_runs import CPU, KINDS, encoder_of, random_tokens

RANK, ALPHA, LENGTH, REVIEWS = 3, 4, 20, 6
TARGETS = ["query", "value", "mlp"]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_equal_those_of_peft(kind, settings):
    encoder = encoder_of(kind)
    lora = {"rank": RANK, "alpha": ALPHA, "targets": TARGETS}
    ours = Classifier(encoder, settings(lora=lora), 1)
    layout = encoder.layout
    names = [name for target in TARGETS for name in layout.linears(target, 2)]
    base = load_classifier(encoder)
    state = ours.models[0].state_dict()
    head = {name: tensor for name, tensor in state.items() if name.startswith(layout.head)}
    base.load_state_dict(head, strict=False)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA * RANK, lora_dropout=0.0, target_modules=names
    )
    theirs = peft.get_peft_model(base, config)
    parameters = dict(theirs.named_parameters())
    pairs = {}
    for own, parameter in ours.trainable().items():
        site, _, letter = own.replace(".lora.", "|").partition("|")
        other = parameters[f"base_model.model.{site}.lora_{letter}.default.weight"]
        drawn = torch.Generator().manual_seed(len(pairs))
        torch.nn.init.normal_(parameter, std=0.1, generator=drawn)
        other.data.copy_(parameter.data.T)
        pairs[own] = (parameter, other)
    assert len(pairs) == sum(p.requires_grad for p in theirs.parameters())

    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    own_logits = ours.logits(batch)[0]
    theirs.eval()
    ids = batch.ids.view(REVIEWS, LENGTH)
    their_logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(own_logits, their_logits, atol=1e-5)
    F.cross_entropy(own_logits, batch.labels).backward()
    F.cross_entropy(their_logits, batch.labels).backward()
    for name, (parameter, other) in pairs.items():
        assert torch.allclose(parameter.grad, other.grad.T, atol=1e-5), name
