"""Show what a vocabulary folder holds: how many words, how long their rows are, and which words are near which.

    python -m jobs.report vocabulary gs://bucket/vocabulary --words dog king red

Writes a page and prints the same as text.
"""

import html
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template

import torch
import tyro
from torch import Tensor
from torch.nn import functional

from jobs.reporting.page import Drawing, figure_html
from spae.data.publishing import join, publish
from spae.figures import histogram_figure, png_bytes
from spae.vocabulary import Vocabulary

WORDS = ("dog", "king", "red", "seven", "water", "music", "car", "happy")
NEIGHBOURS = 6
EMBEDDING, MEANING = "language model's embedding", "meaning in CLIP"

_NAMED = 20  # words that went for a reason
_SAMPLED = 1_000  # words whose nearest neighbour is sought; of all 100,000 it would take minutes
_AT_ONCE = 128  # words compared to all others: 50 MB at 100,000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VocabularyReportFlags:
    """What to show."""

    vocabulary: tyro.conf.Positional[str]
    """Folder or URL of the vocabulary."""
    words: tuple[str, ...] = ()
    """Words whose neighbours are shown; without, a handful of common ones, or the first of the vocabulary."""
    output: str = ""
    """File or URL of the page; without, report.html in the vocabulary's folder."""


@dataclass(frozen=True)
class VocabularyReport:
    """What the page and the text show: facts by title, figures, and each word's neighbours by each measure."""

    facts: Mapping[str, str]
    drawing: Drawing
    neighbours: Mapping[str, Mapping[str, tuple[str, ...]]]


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 where all went well, 2 for unusable arguments."""
    try:
        flags = tyro.cli(
            VocabularyReportFlags, args=arguments, prog="python -m jobs.report vocabulary", description=__doc__
        )
        report = gather(Vocabulary.load(flags.vocabulary), flags.words)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    output = flags.output or join(flags.vocabulary, "report.html")
    publish(output, render(report).encode())
    sys.stdout.write("".join(f"{line}\n" for line in text_lines(report)))
    logger.info("wrote %s", output)
    return 0


def gather(vocabulary: Vocabulary, words: Sequence[str]) -> VocabularyReport:
    """All that is shown; ValueError where a word is none of the vocabulary."""
    known = set(vocabulary.word_list)
    if absent := [word for word in words if word not in known]:
        raise ValueError(f"--words {' '.join(absent)}: the vocabulary's {len(known)} words do not hold these")
    shown = tuple(words) or tuple(word for word in WORDS if word in known) or vocabulary.word_list[: len(WORDS)]
    tables = {EMBEDDING: vocabulary.embeddings}
    if vocabulary.semantics is not None:
        tables[MEANING] = vocabulary.semantics
    panels = {}
    for name, table in tables.items():
        panels[f"length of a row, {name}"] = table.norm(dim=1)
        panels[f"cosine to the nearest word, {name}"] = _nearest_cosines(table)
    drawing = Drawing("Lengths and distances", "Counts of words.", png_bytes(histogram_figure(panels)))
    units = {name: functional.normalize(table, dim=1) for name, table in tables.items()}
    neighbours = {word: {name: _neighbours(vocabulary, unit, word) for name, unit in units.items()} for word in shown}
    return VocabularyReport(dict(_facts(vocabulary, tables)), drawing, neighbours)


def text_lines(report: VocabularyReport) -> Iterator[str]:
    """The report for a terminal."""
    for title, fact in report.facts.items():
        yield f"{title:24} {fact}"
    for word, found in report.neighbours.items():
        for name, nearest in found.items():
            yield f"{word:24} {name}: {', '.join(nearest)}"


def render(report: VocabularyReport) -> str:
    """The report as one HTML file that needs nothing else."""
    facts = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in report.facts.items())
    measures = next(iter(report.neighbours.values()), {})
    rows = ""
    for word, found in report.neighbours.items():
        cells = "".join(f"<td>{html.escape(', '.join(nearest))}</td>" for nearest in found.values())
        rows += f"<tr><th>{html.escape(word)}</th>{cells}</tr>"
    return _PAGE.substitute(
        facts=facts,
        figure=figure_html(report.drawing),
        head="".join(f"<th>{html.escape(name)}</th>" for name in measures),
        rows=rows,
    )


def _facts(vocabulary: Vocabulary, tables: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    record = vocabulary.record
    yield "words", f"{len(vocabulary)}, rows of width {vocabulary.width}"
    yield "language model", f"{record.llm}, {record.embeddings_source}, revision {record.llm_revision}"
    yield "table", record.table
    for reason, count in record.counts.items():
        named = record.dropped_words.get(reason, ())[:_NAMED]
        yield f"tokens: {reason}", f"{count}" + (f", as {', '.join(named)}" if named else "")
    if clip := record.semantics:
        yield (
            "CLIP",
            f"{clip.clip} {clip.clip_weights} ({clip.activation}), sha256 of its weights {clip.weights_sha256}",
        )
        yield "golden cosine", f"{clip.golden_cosine:.4f}"
        yield "prompts", f"{clip.template_set}, {len(clip.templates)} a word, as {clip.templates[0]!r}"
    else:
        yield "CLIP", "none: this vocabulary has no semantics"
    for name, table in tables.items():
        low, middle, high = torch.quantile(table.norm(dim=1), torch.tensor([0.0, 0.5, 1.0])).tolist()
        yield f"lengths, {name}", f"{low:.3f} to {high:.3f}, median {middle:.3f}"
    yield "licence", record.license or "not recorded"
    yield "source terms", record.source_terms or "not recorded"
    yield "fingerprint of words", vocabulary.words_fingerprint
    yield "fingerprint of semantics", vocabulary.semantics_fingerprint or "none"


def _nearest_cosines(table: Tensor) -> Tensor:
    """Each sampled word's cosine to the word nearest to it."""
    unit = functional.normalize(table, dim=1)
    sample = torch.arange(0, len(unit), max(1, len(unit) // _SAMPLED))
    nearest = []
    for rows in sample.split(_AT_ONCE):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows)), rows] = -1.0
        nearest.append(cosines.amax(dim=1))
    return torch.cat(nearest)


def _neighbours(vocabulary: Vocabulary, unit: Tensor, word: str) -> tuple[str, ...]:
    row = vocabulary.word_list.index(word)
    cosines = unit @ unit[row]
    cosines[row] = -torch.inf
    nearest = cosines.topk(min(NEIGHBOURS, len(unit) - 1)).indices.tolist()
    return tuple(vocabulary.word_list[number] for number in nearest)


_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>SPAE: a vocabulary</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #22252b; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; }
th, td { padding: .22rem 1.1rem .22rem 0; border-bottom: 1px solid #e9ebee; vertical-align: top; }
td { overflow-wrap: anywhere; } img { width: 100%; }
</style>
<h1>A vocabulary</h1>
<table>$facts</table>
$figure
<h2>Nearest words</h2>
<p>By cosine, nearest first.</p>
<table><thead><tr><th></th>$head</tr></thead><tbody>$rows</tbody></table>
</html>
""")
