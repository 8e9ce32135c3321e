"""An AI-like pipeline: preprocess, model, postprocess, save, respond.

    onward run examples/ai_pipeline/app.py:app summarize --data @examples/ai_pipeline/article.json

The model is a stand-in, and every answer says so: it ranks sentences by the words they share with
the rest of the text (H. P. Luhn, The Automatic Creation of Literature Abstracts, 1958), on this
machine and without a network. What is around it is what a pipeline with a hosted model needs: the
model's step, the expensive one, is never paid for twice once a checkpoint has confirmed it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "luhn-1958, a local stand-in: no language model was called"
# Words that say nothing about a text; those of fewer than five letters are left out anyway.
COMMON = frozenset({
    "about", "after", "again", "because", "before", "being", "could", "every", "other", "should",
    "since", "still", "their", "there", "these", "those", "through", "under", "until", "where",
    "which", "while", "whose", "would",
})  # fmt: skip

app = onward.App("ai-pipeline")


@dataclass(frozen=True)
class Request:
    """What the event asks for."""

    text: str
    sentences: int = 2
    out: str = "build/ai_pipeline"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Request:
        """Read event data. Raises `NonRetriableError` if no summary can come of it."""
        text, sentences = data.get("text"), data.get("sentences", cls.sentences)
        if not isinstance(text, str) or not text.strip():
            raise onward.NonRetriableError(f"the event's data needs a text, not {text!r}")
        if type(sentences) is not int or sentences < 1:
            raise onward.NonRetriableError(f"sentences: give 1 or more, not {sentences!r}")
        return cls(text, sentences, str(data.get("out", cls.out)))


@dataclass(frozen=True)
class Document:
    """A text made ready for the model: its sentences, and the words that carry each of them."""

    sentences: list[str]
    words: list[list[str]]


@dataclass(frozen=True)
class Summary:
    """What the caller gets."""

    summary: str
    keywords: list[str]
    kept: float
    """The summary's share of the text's length, 0 to 1."""
    model: str = MODEL


@app.function(
    "summarize",
    trigger=onward.Event("text/summary.requested"),
    checkpointing=onward.Checkpointing(max_runtime="10m", buffered_steps=2, max_interval="5s"),
)
async def summarize(ctx: onward.Context) -> Summary:
    """Summarize `text` in so many `sentences`; the summary is also saved and sent as an event."""
    request = Request.of(ctx.event.data)
    document = await ctx.step.run("preprocess", preprocess, request.text)
    # The timeout is the step's own; a model that hangs costs two minutes, not the invocation.
    scores = await ctx.step.run("model", model, document, timeout="2m")
    summary = await ctx.step.run("postprocess", postprocess, request, document, scores)
    await ctx.step.run("save", save, request.out, ctx.run_id, summary)
    await ctx.step.send_event(
        "respond",
        {"name": "text/summary.ready", "data": {"run": ctx.run_id, "summary": summary.summary}},
    )
    return summary


def preprocess(text: str) -> Document:
    """Split the text into sentences, and these into their words without the common ones."""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    words = [re.findall(r"[^\W\d_]{5,}", sentence.lower()) for sentence in sentences]
    return Document(sentences, [[word for word in line if word not in COMMON] for line in words])


async def model(document: Document) -> list[float]:
    """Score each sentence. Put the call of a hosted model here.

    A word weighs as often as the text uses it, from its second use on; a sentence scores the
    square of its weight over its length, so that long sentences do not win by their length.
    """
    uses = Counter(word for line in document.words for word in line)
    weights = [sum(uses[word] - 1 for word in line) for line in document.words]
    lengths = [max(len(line), 1) for line in document.words]
    return [weight**2 / length for weight, length in zip(weights, lengths, strict=True)]


def postprocess(request: Request, document: Document, scores: list[float]) -> Summary:
    """Put the best sentences together in the order of the text."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    best = sorted(ranked[: request.sentences])
    summary = " ".join(document.sentences[index] for index in best)
    uses = Counter(word for line in document.words for word in line)
    keywords = sorted(uses, key=lambda word: (-uses[word], word))[:5]
    return Summary(summary, keywords, round(len(summary) / len(" ".join(document.sentences)), 3))


def save(out: str, run_id: str, summary: Summary) -> str:
    """Keep the summary under its run, so that saving it again changes nothing."""
    path = Path(out, "summaries.sqlite").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS summary"
            " (run_id TEXT PRIMARY KEY, summary TEXT NOT NULL, model TEXT NOT NULL)"
        )
        database.execute(
            "INSERT OR REPLACE INTO summary VALUES (?, ?, ?)",
            (run_id, summary.summary, summary.model),
        )
    return str(path)
