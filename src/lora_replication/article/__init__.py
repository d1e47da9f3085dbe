"""The article's published numbers and claims as data, each with where it says so."""

from lora_replication.article.claims import Article as Article
from lora_replication.article.claims import Claim as Claim
from lora_replication.article.claims import Kind as Kind
from lora_replication.article.claims import PublishedMethod as PublishedMethod
from lora_replication.article.claims import article as article
from lora_replication.article.claims import claims as claims
from lora_replication.article.claims import published as published
from lora_replication.article.claims import rate_of as rate_of
