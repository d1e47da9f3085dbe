"""What a study does otherwise than the article, from its parameters."""

from lora_replication.article import SETTING
from lora_replication.report.wording import listed, subject
from lora_replication.study import Study

ARTICLE = {
    "epochs": 3,
    "batch_size": 12,
    "learning_rate": 5e-5,
    "precision": "fp16-mixed",
    "device": "cuda",
}
"""How the article trained."""

ALWAYS = (
    "Every run is seeded and repeated over several seeds; the article's runs were made once, without a seed.",
    "Reviews are trained without padding; the article padded all to 512 tokens. Padding is masked, so this changes rounding alone.",
    "docs/deviations.md in the project lists these and the smaller ones with their reasons.",
)


def deviations(study: Study) -> tuple[str, ...]:
    """Sentences, those that hold for every study first."""
    found = list(ALWAYS)
    if not study.is_the_articles:
        found.append(f"The article's setting is {SETTING}; here it is {subject(study)}.")
    here = study.train.model_dump()
    changed = [
        f"{name} {here[name]} ({value} there)"
        for name, value in ARTICLE.items()
        if here[name] != value
    ]
    if changed:
        found.append(f"Training: {listed(changed)}.")
    rates = [
        f"{name} {method.learning_rate:g}"
        for name, method in study.methods.items()
        if method.learning_rate
    ]
    if rates:
        found.append(
            f"Learning rates of their own: {listed(rates)}; the article used {ARTICLE['learning_rate']:g} for all."
        )
    if study.grid.scaling != "article":
        found.append("The grid scales the low-rank term by alpha / rank; the article by alpha.")
    if study.grid.dropout:
        found.append(
            f"The grid drops out {study.grid.dropout:g} of the low-rank term's input; the article declares 0.05 and never uses it."
        )
    return tuple(found)
