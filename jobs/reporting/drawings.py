"""What a frozen language model drew: how often it was right, and an episode of each way of asking as a picture."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spae.data.publishing import read_bytes
from spae.incontext.episodes import EpisodeRow, episodes_url, read_episodes, sheet_url

CAPTION = (
    "Each line is a picture: the damaged and the right one where there are such, what was drawn, and the example that "
    "resembles it most. Judged by the five nearest training pictures, which know nothing of words."
)


@dataclass(frozen=True)
class DrawnSetting:
    """One way of asking: its scores, its first row, and its first episode as a PNG."""

    title: str
    scores: Mapping[str, Any]
    row: EpisodeRow
    sheet: bytes


def gather_drawings(folder: str) -> list[DrawnSetting]:
    """What runs of `jobs.incontext` below a local folder drew; ValueError where rows are missing or broken."""
    found = []
    for summary in sorted(Path(folder).glob("*/summary.json")):
        for task, settings in json.loads(summary.read_bytes()).items():
            scored = {name: one for name, one in settings.items() if task != "protocol" and "mean" in one}
            for setting, scores in scored.items():
                url = episodes_url(str(summary.parent), task, setting, 0)
                if sheet := read_bytes(sheet_url(url)):  # none where no picture became whole
                    title = f"{summary.parent.name}: {setting}"
                    found.append(DrawnSetting(title, scores, read_episodes(url)[0][0], sheet))
    return found


def drawings_html(drawings: Sequence[DrawnSetting]) -> str:
    """A section of the page, empty without drawings."""
    if not drawings:
        return ""
    return f"<h2>What the frozen language model draws</h2><p>{CAPTION}</p>" + "".join(map(_setting, drawings))


def _setting(drawn: DrawnSetting) -> str:
    scores, row = drawn.scores, drawn.row
    told = f"judged right {scores['mean']:.0%} [{scores['low']:.0%}, {scores['high']:.0%}] of {scores['n']}"
    if "psnr" in scores:
        told += f", {scores['psnr']:.1f} dB [{scores['psnr_low']:.1f}, {scores['psnr_high']:.1f}]"
    picture = base64.b64encode(drawn.sheet).decode()
    title = html.escape(drawn.title)
    return (
        f"<h3>{title}</h3><p>{told}</p><img class='drawn' alt='{title}' src='data:image/png;base64,{picture}'>"
        f"<details><summary>the first prompt, and what was written</summary>"
        f"<pre class='prompt'>{html.escape(row.prompt)} <b>{html.escape(row.answer)}</b></pre></details>"
    )
