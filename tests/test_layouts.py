import pytest
import torch
import transformers

from lora_replication.study import TARGETS
from lora_replication.training.layouts import LAYOUTS


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_targets_are_all_linears_of_the_classifier_each_once(kind):
    layout = LAYOUTS[kind]
    classifier = getattr(transformers, layout.classifier)
    with torch.device("meta"):
        model = classifier(classifier.config_class())
    depth = getattr(model.config, layout.depth)
    named = [name for target in TARGETS for name in layout.linears(target, depth)]
    linears = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    ]
    assert sorted(named) == sorted(linears)


def test_the_articles_names():
    layout = LAYOUTS["distilbert"]
    assert layout.linears("query", 1) == ["distilbert.transformer.layer.0.attention.q_lin"]
    assert layout.linears("mlp", 1) == [
        "distilbert.transformer.layer.0.ffn.lin1",
        "distilbert.transformer.layer.0.ffn.lin2",
    ]
    assert layout.linears("head", 6) == ["pre_classifier", "classifier"]
