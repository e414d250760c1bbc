"""What asking would take, from a sample of the prompts, before anything is asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from jobs.episodes.files import EpisodeFile
from spae.incontext import TokenCounter

_SAMPLED_EPISODES = 4


@dataclass(frozen=True)
class AskingEstimate:
    """Of all files that are to be made.

    Attributes:
        questions: to ask.
        prompt_tokens: of all prompts, by the mean of the sampled ones.
        answer_tokens: at most.
        longest: tokens of the longest prompt of the sample.
    """

    questions: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    longest: int = 0

    def cost(self, prompt_price: float, answer_price: float) -> float:
        """At most, at prices of a million tokens."""
        return (self.prompt_tokens * prompt_price + self.answer_tokens * answer_price) / 1e6


class SampledJob(Protocol):
    """Tells what episodes are asked by."""

    def prompts(self, setting: str, number: int) -> list[tuple[str, int]]:
        """Text of each prompt of an episode, as far as it is known before it is asked, and its answer's most tokens."""


def estimate(job: SampledJob, files: Iterable[EpisodeFile], counter: TokenCounter) -> AskingEstimate:
    """What files would take, those of a setting together; the first episodes of each setting are drawn."""
    total = AskingEstimate()
    for setting, members in groupby(files, key=lambda file: file.setting):
        parts = list(members)
        first, stop = parts[0].first, parts[0].stop
        drawn = [job.prompts(setting, number) for number in range(first, stop)[:_SAMPLED_EPISODES]]
        tokens = [counter.count_tokens(text) for episode in drawn for text, _ in episode]
        most = sum(limit for episode in drawn for _, limit in episode)
        share = sum(map(len, parts)) / len(drawn)
        total = AskingEstimate(
            questions=total.questions + round(len(tokens) * share),
            prompt_tokens=total.prompt_tokens + round(sum(tokens) * share),
            answer_tokens=total.answer_tokens + round(most * share),
            longest=max([total.longest, *tokens]),
        )
    return total
