"""A checkpoint over questions: answers, their scores, and the cost of all windows."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tokenizers import Encoding

from ltp_core.inference import Evaluation, Passes, run_passes
from ltp_core.questions.scores import AnswerScores, at_threshold, best_scores, mean_scores
from ltp_core.questions.spans import find_answers
from ltp_core.records import QuestionSettings
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import Rows
from ltp_core.tasks.windows import Windows, encode_windows
from ltp_core.token_categories import KindCounter

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod


def measure_questions(
    model: PrunedModel,
    rows: Rows,
    method: PruningMethod,
    *,
    batch_size: int = 64,
    counter: KindCounter | None = None,
) -> Evaluation:
    """Answers every question and scores the answers at the checkpoint's threshold.

    Where every question has an answer, as in SQuAD 1.1, none is left unanswered.

    Cost is that of all windows. In the records a question's `label` says whether it has an answer,
    and its `prediction` is the F1 of what was answered.

    Args:
        model: Loaded checkpoint with a span head.
        rows: Questions with their accepted answers.
        method: What prunes.
        batch_size: Windows per pass; no result depends on it.
        counter: Is given every decision.

    Raises:
        UserError: A question leaves no room for its context in a window.
    """
    settings = model.questions or QuestionSettings()
    windows = encode_windows(model.tokenizer, rows.texts, model.max_length, settings.stride)

    def describe(i: int) -> tuple[Encoding, tuple[str, ...]]:
        question, context = rows.texts[windows.example[i]]
        return windows.encodings[i], (question.strip(), context)

    passes = run_passes(
        model, windows.encoded, method, batch_size=batch_size, counter=counter, describe=describe
    )
    row = rows.row[windows.example]
    layers = passes.layers_frame(rows.split, row)
    num_layers = passes.ffn_length.shape[1]
    evaluation = Evaluation(
        task=rows.task,
        split=rows.split,
        metrics={},
        relative_flops=passes.relative_flops(model),
        mean_retained=passes.mean_retained,
        examples=_examples(rows, windows, passes),
        layers=layers.assign(window=np.repeat(windows.number, num_layers)),
        dataset={
            "source": rows.source,
            "rows": len(rows),
            "sha256": rows.sha256,
            "unanswerable_rows": int((rows.labels == 0).sum()),
        },
    )
    allows_no_answer = find_task(rows.task).allows_no_answer
    return with_threshold(evaluation, settings.null_threshold if allows_no_answer else math.inf)


def _examples(rows: Rows, windows: Windows, passes: Passes) -> pd.DataFrame:
    """One row per question; what follows from the threshold is still missing."""
    assert rows.answers is not None
    bounds = np.searchsorted(windows.example, np.arange(len(rows) + 1))
    found = []
    for i, (_, context) in enumerate(rows.texts):
        chosen = range(int(bounds[i]), int(bounds[i + 1]))
        answers = find_answers(windows, chosen, passes.logits)
        begin, end = (answers.spans[0].begin, answers.spans[0].end) if answers.spans else (0, 0)
        match, f1 = best_scores(context[begin:end], rows.answers[i].texts)
        found.append((answers.null_difference, match, f1, begin, end))
    difference, matches, f1s, begins, ends = (np.array(x) for x in zip(*found, strict=True))
    return pd.DataFrame(
        {
            "split": rows.split,
            "row": rows.row,
            "length": np.add.reduceat(passes.length, bounds[:-1]),
            "label": rows.labels,
            "null_difference": difference.astype(np.float32),
            "answer_exact_match": matches,
            "answer_f1": f1s,
            "answer_begin": begins,
            "answer_end": ends,
        }
    )


def answer_scores(examples: pd.DataFrame) -> AnswerScores:
    """What the records say of the best answers in the text."""
    return AnswerScores(
        has_answer=examples["label"].to_numpy(dtype=np.float64),
        exact_match=examples["answer_exact_match"].to_numpy(dtype=np.float64),
        f1=examples["answer_f1"].to_numpy(dtype=np.float64),
        null_difference=examples["null_difference"].to_numpy(dtype=np.float64),
    )


def with_threshold(evaluation: Evaluation, threshold: float) -> Evaluation:
    """The same evaluation, questions left unanswered above this threshold."""
    scores = answer_scores(evaluation.examples)
    match, f1 = at_threshold(scores, threshold)
    return dataclasses.replace(
        evaluation,
        metrics=mean_scores(match, f1, scores.has_answer),
        examples=evaluation.examples.assign(prediction=f1, exact_match=match),
    )
