"""The report as one HTML file that needs nothing else: pictures are embedded, no script runs."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from jobs.reporting.comparison import at, compared_figures
from jobs.reporting.drawings import DrawnSetting, drawings_html
from jobs.reporting.reading import Reading, reading_html

CAVEAT = (
    "The captions on which the small CLIP was trained name the labels: it is a supervised classifier of digits, and "
    "the first words distil it. That they are right shows that the semantic loss puts what CLIP sees into the top of "
    "the pyramid, and that without this loss it is not there. It shows no transfer to classes that CLIP was not told "
    "about. No pretrained CLIP was used."
)
SQL = """select key, label, vocabulary.word as first_word
from '{tokens}/test-*.parquet' as tokens
join '{tokens}/vocabulary.parquet' as vocabulary on vocabulary.id = tokens.layer_1[1]"""


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class WordRow:
    """A row of the token table as words: the first layers, each as the lines of its grid."""

    key: str
    name: str
    layers: tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(frozen=True)
class PageContent:
    """All that the page shows.

    Attributes:
        metrics: content of metrics.json, as far as it exists.
        heads: title of each model in it, in order.
        drawings: figures; the first is the picture of the report.
        words: rows of the token table.
        demo: the folder it is about.
        notes: what is missing.
        reading: what a language model made of the words.
        drawn: what it drew.
    """

    metrics: Mapping[str, Any]
    heads: Mapping[str, str]
    drawings: tuple[Drawing, ...]
    words: tuple[WordRow, ...]
    demo: str
    notes: tuple[str, ...]
    reading: Reading | None = None
    drawn: tuple[DrawnSetting, ...] = ()


def render_page(content: PageContent) -> str:
    """The page as HTML."""
    first, *others = content.drawings
    return _PAGE.substitute(
        lede=_lede(content.metrics),
        notes="".join(f"<p class='note'>{html.escape(note)}</p>" for note in content.notes),
        summary=_summary(content),
        picture=figure_html(first),
        words=_words(content.words),
        sql=html.escape(SQL.format(tokens=f"{content.demo}/tokens")),
        reading=reading_html(content.reading) + drawings_html(content.drawn),
        others="".join(f"<section>{figure_html(drawing)}</section>" for drawing in others),
        caveat=html.escape(CAVEAT),
        protocol=_protocol(content.metrics),
        seconds=_seconds(content.metrics),
        demo=html.escape(content.demo),
    )


def _lede(metrics: Mapping[str, Any]) -> str:
    """The two figures that tell most, where they are known."""
    right, plain = at(metrics, "model", "first_word", "share"), at(metrics, "baseline", "first_word", "share")
    layers, nearest = at(metrics, "model", "layers"), at(metrics, "model", "baselines", "nearest_psnr")
    facts = []
    if right is not None:
        other = "" if plain is None else f" (without the semantic loss: {plain:.1%})"
        facts.append(f"The first word names what is shown for <b>{right:.1%}</b> of the test pictures{other}.")
    if layers and at(layers, -1, "psnr") is not None:
        other = "" if nearest is None else f"; the nearest training picture reaches {nearest:.1f} dB"
        facts.append(
            f"All {layers[-1]['words_so_far']} words rebuild a picture at <b>{layers[-1]['psnr']:.1f} dB</b>{other}."
        )
    return " ".join(facts)


def _summary(content: PageContent) -> str:
    names = [name for name in content.heads if name in content.metrics]
    rows = compared_figures([content.metrics[name] for name in names])
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(content.heads[name])}</th>" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(row.title)}</td>{''.join(f'<td>{html.escape(value)}</td>' for value in row.values)}</tr>"
        for row in rows
    )
    return f"<table class='figures'><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def figure_html(drawing: Drawing) -> str:
    """A figure with its title and caption, the picture inside."""
    data = base64.b64encode(drawing.png).decode()
    title, caption = html.escape(drawing.title), html.escape(drawing.caption)
    paragraph = f"<p>{caption}</p>" if caption else ""
    return f"<h2>{title}</h2>{paragraph}<div class='wide'><img alt='{title}' src='data:image/png;base64,{data}'></div>"


def _words(rows: Sequence[WordRow]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>layer {number}</th>" for number in range(1, len(rows[0].layers) + 1))
    body = ""
    for row in rows:
        cells = "".join(f"<td>{_grid(layer, row.name)}</td>" for layer in row.layers)
        body += f"<tr><td>{html.escape(row.name)}</td><td class='key'>{html.escape(row.key)}</td>{cells}</tr>"
    return f"<table class='words'><thead><tr><th>class</th><th>key</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _grid(lines: Sequence[Sequence[str]], name: str) -> str:
    rows = ""
    for line in lines:
        cells = (f"<td{' class=hit' if word == name else ''}>{html.escape(word)}</td>" for word in line)
        rows += f"<tr>{''.join(cells)}</tr>"
    return f"<table>{rows}</table>"


def _protocol(metrics: Mapping[str, Any]) -> str:
    """How the figures came about, in one paragraph."""
    protocol = at(metrics, "model", "protocol")
    if not protocol:
        return ""
    text = Template(
        "$samples samples of the split $split, $errors that could not be decoded; $crop; PSNR $psnr; intervals are 95% "
        "(Wilson). Batches of $batch on $device, torch $torch, spae $code_version. Everything was tuned on val. Model "
        "$model_fingerprint, words $words_fingerprint."
    ).safe_substitute(
        {**protocol, "samples": at(metrics, "model", "samples"), "errors": at(metrics, "model", "errors")}
    )
    for judge in protocol.get("judges", ()):
        text += f" Judge {judge['name']}: {judge['source']}; {judge['preprocessing']}."
        text += "" if judge["comparable"] else " Its figures compare with nothing."
    return f"<p class='small'>{html.escape(text)}</p>"


def _seconds(metrics: Mapping[str, Any]) -> str:
    seconds = metrics.get("seconds")
    if not isinstance(seconds, Mapping) or not seconds:
        return ""
    parts = [f"{name} {value:.0f} s" for name, value in seconds.items()]
    return f"<p class='small'>{html.escape('; '.join(parts))}; {sum(seconds.values()):.0f} s in all.</p>"


_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>SPAE: pictures as words</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #22252b; background: #fff; max-width: 1200px; margin: 2.5rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; }
p { max-width: 52rem; margin: .4rem 0; }
.wide { overflow-x: auto; border: 1px solid #e3e5e9; border-radius: 6px; padding: .6rem; }
.wide img { width: 100%; min-width: 1100px; display: block; }
table { border-collapse: collapse; margin: .6rem 0; }
th { text-align: left; font-weight: 600; }
th, td { padding: .22rem 1.1rem .22rem 0; border-bottom: 1px solid #e9ebee; vertical-align: top; }
.figures td + td, .figures th + th { text-align: right; font-variant-numeric: tabular-nums; padding-left: 1.4rem; }
.words table { margin: 0; }
.words table td { border: 0; padding: 0 .8rem 0 0; font-size: .9em; }
.words .hit { color: #b3261e; font-weight: 700; }
td.key { white-space: nowrap; }
.key, code, pre { font-family: ui-monospace, monospace; font-size: .85em; }
pre { background: #f5f6f8; padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; max-width: 60rem; }
.drawn { image-rendering: pixelated; height: 40rem; border: 1px solid #e3e5e9; }
pre.prompt { white-space: pre-wrap; }
.caveat { border-left: 4px solid #c26a1b; padding-left: 1rem; margin: 1.2rem 0; }
.note { color: #8a4b08; }
.small { font-size: .87em; color: #5b616b; overflow-wrap: anywhere; }
</style>
<h1>Pictures as words of a language model</h1>
<p>$lede</p>
<p class="caveat">$caveat</p>
$notes
<h2>Scores on pictures that nothing was trained or tuned on</h2>
$summary
$protocol
$picture
<h2>Words from the token table</h2>
<p>Rows of the Parquet table, ids joined with <code>vocabulary.parquet</code>; the class's own name is marked. The same
in SQL, for the first word:</p>
<pre>$sql</pre>
$words
$reading
$others
<h2>Do it again</h2>
<pre>make demo                            # all of it, from the raw digits
python -m jobs.demo --output $demo
python -m jobs.report --demo $demo   # this page only</pre>
$seconds
</html>
""")
