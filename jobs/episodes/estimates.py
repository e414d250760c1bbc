"""What asking would take, from a sample of the prompts, before anything is asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from jobs.episodes.asking import AskingJob
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


def estimate(job: AskingJob, files: Iterable[EpisodeFile], counter: TokenCounter) -> AskingEstimate:
    """What files would take, those of a setting together; the first episodes of each setting are drawn."""
    total = AskingEstimate()
    for setting, members in groupby(files, key=lambda file: file.setting):
        parts = list(members)
        first, stop = parts[0].first, parts[0].stop
        drawn = [job.task.episode(setting, number) for number in range(first, stop)[:_SAMPLED_EPISODES]]
        prompts = [question.prompt.text for episode in drawn for question in episode.questions if not question.error]
        tokens = [counter.count_tokens(prompt) for prompt in prompts]
        episodes = sum(map(len, parts))
        questions = round(len(prompts) / len(drawn) * episodes)
        total = AskingEstimate(
            questions=total.questions + questions,
            prompt_tokens=total.prompt_tokens + round(sum(tokens) / len(drawn) * episodes),
            answer_tokens=total.answer_tokens + questions * job.limits(setting, drawn[0].names).most_tokens,
            longest=max([total.longest, *tokens]),
        )
    return total
