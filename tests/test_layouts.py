import pytest
import torch
import transformers

from lora_replication.allowed import TARGETS
from lora_replication.training.layouts import LAYOUTS


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_targets_are_all_linears_of_the_classifier_each_once(kind):
    layout = LAYOUTS[kind]
    classifier = getattr(transformers, layout.classifier)
    with torch.device("meta"):
        model = classifier(classifier.config_class())
    depth = getattr(model.config, layout.depth)
    named = [name for target in TARGETS for name in layout.linears(target, depth)]
    modules = dict(model.named_modules())
    assert sorted(named) == sorted(
        name for name, module in modules.items() if isinstance(module, torch.nn.Linear)
    )


def test_the_articles_names():
    layout, prefix = LAYOUTS["distilbert"], "distilbert.transformer.layer.0."
    assert layout.linears("query", 1) == [prefix + "attention.q_lin"]
    assert layout.linears("mlp", 1) == [prefix + "ffn.lin1", prefix + "ffn.lin2"]
    assert layout.linears("head", 6) == ["pre_classifier", "classifier"]
