"""Logits of exported folders where only torch, transformers and peft are, as their readers have.

Reads jobs from standard input: for each its form, its folder, its base, a text and its token ids.
"""

import json
import sys

sys.modules["lora_replication"] = None  # importing it fails

import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForSequenceClassification, pipeline  # noqa: E402


@torch.no_grad()
def logits_of_peft(folder: str, base: str, text: str, ids: list[int]) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(base)
    model = PeftModel.from_pretrained(model, folder).eval()
    return model(input_ids=torch.tensor([ids])).logits[0].tolist()


def logits_of_merged(folder: str, base: str, text: str, ids: list[int]) -> list[float]:
    classify = pipeline("text-classification", folder, device="cpu")
    found = classify(text, top_k=None, function_to_apply="none", truncation=True)
    scores = {each["label"]: each["score"] for each in found}
    return [scores["bad"], scores["good"]]


if __name__ == "__main__":
    forms = {"peft": logits_of_peft, "merged": logits_of_merged}
    jobs = json.load(sys.stdin)
    print(json.dumps([forms[job.pop("form")](**job) for job in jobs]))
