"""The article's published numbers and claims as data, each with where it says so."""

from lora_replication.article.claims import Claim, Kind, claims
from lora_replication.article.numbers import (
    CITATION,
    SETTING,
    PublishedMethod,
    PublishedNumber,
    published,
)

__all__ = [
    "CITATION",
    "SETTING",
    "Claim",
    "Kind",
    "PublishedMethod",
    "PublishedNumber",
    "claims",
    "published",
]
