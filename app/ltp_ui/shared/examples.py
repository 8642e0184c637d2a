"""Example inputs by task, written for this app: no text of a data set is in the repository."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """An input to click: its name and its one or two texts."""

    name: str
    text: str
    pair: str | None = None


_REVIEWS = (
    Example(
        "Slow but lovely",
        "The director's latest film is slow, but beautifully shot and surprisingly funny, though "
        "the final act drags and a few of the supporting performances never quite convince.",
    ),
    Example("Not bad at all", "Not a bad film at all, I was never bored."),
    Example(
        "Wasted talent",
        "A cast this gifted deserves better than two hours of tired jokes, and so do we.",
    ),
    Example(
        "Faint praise",
        "It is hard to dislike a comedy that means so well, but harder still to remember any of it "
        "the next morning.",
    ),
    Example("Three words", "Simply wonderful cinema"),
)

_LONG_REVIEW = Example(
    "A long review",
    "I went in expecting very little, having read that the shoot was troubled and the script was "
    "rewritten twice, and for the first half hour my fears seemed justified: characters explain "
    "their feelings to each other in full sentences, the score swells whenever someone opens a "
    "door, and the camera refuses to sit still. Then something changes. The story leaves the city, "
    "the talk dries up, and the two leads are finally allowed to act. There is a long scene in a "
    "kitchen, almost without words, in which a mother and her grown son prepare a meal that "
    "neither of them wants to eat, and it is as good as anything I have seen this year. From there "
    "on the film trusts its audience. It still has faults, chief among them an ending that ties "
    "every thread into a bow, and a subplot about a stolen car that goes nowhere. But I left the "
    "cinema moved, and I have been thinking about that kitchen ever since. See it, and forgive it "
    "the first half hour.",
)

_LIGHTHOUSE = (
    "The lighthouse on the north cape was built in 1811 by the engineer Clara Holm, after two ships "
    "had been lost on the reef in a single winter. Its first lamp burned whale oil and could be seen "
    "from twelve miles away; electric light came in 1934. The tower is 38 metres high, which made it "
    "the tallest building of the island until the church was given its new spire in 1902. Since the "
    "last keeper left in 1978 the light has been switched on by a sensor, and his rooms are now a "
    "small museum with about nine thousand visitors a year."
)

_QUESTIONS = (
    Example("A name", "Who built the lighthouse?", _LIGHTHOUSE),
    Example("A number", "How high is the tower?", _LIGHTHOUSE),
    Example("A reason", "Why was the lighthouse built?", _LIGHTHOUSE),
    Example("Off the subject", "What colour is the president of Mars?", _LIGHTHOUSE),
    # No name that promises "no answer": the shipped checkpoint answers it.
    Example("Not in the text, yet answered", "How many rooms does the museum have?", _LIGHTHOUSE),
)

_PAIRS = {
    "mrpc": (
        Example(
            "Same news",
            "The company said on Tuesday that it would close two of its plants by the summer.",
            "Two plants will be shut before summer, the firm announced on Tuesday.",
        ),
        Example(
            "Other figures",
            "Shares of the bank rose 3 percent after the results were published.",
            "Shares of the bank fell 3 percent before the results were published.",
        ),
    ),
    "qqp": (
        Example(
            "Same question",
            "How can I learn to play the guitar by myself?",
            "What is the best way to teach myself guitar?",
        ),
        Example(
            "Other question",
            "How long does it take to fly from Rome to Oslo?",
            "How much does it cost to fly from Rome to Oslo?",
        ),
    ),
    "rte": (
        Example(
            "Follows",
            "The bridge, which was opened in 1932 after nine years of work, carries eight lanes of "
            "traffic and two railway tracks.",
            "The bridge was opened in 1932.",
        ),
        Example(
            "Does not follow",
            "The museum will reopen in May, once the roof has been repaired.",
            "The museum was destroyed by a fire.",
        ),
    ),
    "qnli": (
        Example(
            "Answers it",
            "When was the lighthouse built?",
            "The lighthouse was built in 1811 by a local engineer and is still in use.",
        ),
        Example(
            "Beside the point",
            "Who designed the garden?",
            "The garden is open to visitors from April to October, except on Mondays.",
        ),
    ),
    "mnli": (
        Example(
            "Entailed",
            "All three of her brothers play in the town's orchestra.",
            "Someone in her family plays music.",
        ),
        Example(
            "Contradicted", "The shop never opens on Sundays.", "You can shop there on Sunday."
        ),
        Example(
            "Neutral",
            "A man in a red coat is waiting at the bus stop.",
            "The man is on his way to work.",
        ),
    ),
    "squad": _QUESTIONS[:3],
    "squad_v2": _QUESTIONS,
    "stsb": (
        Example("Very similar", "A boy is riding his bicycle.", "A child rides a bike."),
        Example("Hardly related", "A woman is slicing an onion.", "The plane is landing."),
    ),
}


def examples(task: str | None) -> tuple[Example, ...]:
    """Examples for a task; movie reviews where the task is not known."""
    if task in _PAIRS:
        return _PAIRS[task]
    return (_LONG_REVIEW, *_REVIEWS) if task == "imdb" else (*_REVIEWS, _LONG_REVIEW)
