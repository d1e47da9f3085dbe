"""The article's LoRA against Hugging Face PEFT's on the same weights: alpha times r, A and B
transposed, no task type.
"""

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F

from lora_replication.data.tokens import Tokens
from lora_replication.encoders import load_classifier, locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier

RANK, ALPHA, LENGTH, REVIEWS = 3, 4, 20, 6


@pytest.mark.parametrize("name", ["tiny-distilbert", "tiny-bert"])
def test_logits_and_gradients_equal_those_of_peft(name, settings):
    encoder = locate_encoder(ModelParams(encoder=name, max_tokens=64))
    ours = Classifier(
        encoder,
        settings(
            encoder=name, lora={"rank": RANK, "alpha": ALPHA, "targets": ["query", "value", "mlp"]}
        ),
        1,
    )
    layout = encoder.layout
    names = [name for target in ("query", "value", "mlp") for name in layout.linears(target, 2)]
    base = load_classifier(encoder)
    head = (layout.head_hidden, layout.head_output)
    base.load_state_dict(
        {n: t for n, t in ours.models[0].state_dict().items() if n.startswith(head)}, strict=False
    )
    theirs = peft.get_peft_model(
        base,
        peft.LoraConfig(r=RANK, lora_alpha=ALPHA * RANK, lora_dropout=0.0, target_modules=names),
    )
    parameters = dict(theirs.named_parameters())
    pairs = {}
    with torch.no_grad():
        for own, parameter in ours.trainable().items():
            site, _, letter = own.replace(".lora.", "|").partition("|")
            other = parameters[f"base_model.model.{site}.lora_{letter}.default.weight"]
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(pairs)))
                * 0.1
            )
            other.copy_(parameter.T)
            pairs[own] = other
    assert len(pairs) == sum(p.requires_grad for p in theirs.parameters())

    draw = np.random.default_rng(1)
    ids = draw.integers(5, 200, REVIEWS * LENGTH).astype(np.int32)
    tokens = Tokens(ids, np.arange(0, len(ids) + 1, LENGTH), draw.integers(0, 2, REVIEWS))
    batch = collate(tokens, np.arange(REVIEWS), torch.device("cpu"))
    own_logits = ours.logits(batch)[0]
    theirs.eval()
    their_logits = theirs(
        input_ids=batch.ids.view(REVIEWS, LENGTH), attention_mask=torch.ones(REVIEWS, LENGTH)
    ).logits
    assert torch.allclose(own_logits, their_logits, atol=1e-5)
    F.cross_entropy(own_logits, batch.labels).backward()
    F.cross_entropy(their_logits, batch.labels).backward()
    for own, other in pairs.items():
        assert torch.allclose(ours.trainable()[own].grad, other.grad.T, atol=1e-5), own
