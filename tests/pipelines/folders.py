"""Class folders of real digits, sound or with every kind of garbage among them, and short forms of the command."""

import hashlib
import io
import sys
from pathlib import Path

from PIL import Image

from pipelines.images import main
from spae.data.sources.digits import DigitsSource


def digits(output: Path | str, *flags: str) -> int:
    """Run `pipelines.images` on the validation digits."""
    return main(["--source", "digits", "--split", "val", "--output", str(output), *flags])


def digits_command(output: Path) -> list[str]:
    """The same as a command of its own."""
    source = ("--source", "digits", "--split", "val")
    return [sys.executable, "-m", "pipelines.images", *source, "--output", str(output)]


def folder(source: Path, output: Path, *flags: str) -> int:
    """Run `pipelines.images` on class folders."""
    return main(["--source", "folder", "--split", "train", "--input", str(source), "--output", str(output), *flags])


def digit_folder(root: Path, count: int) -> Path:
    """`count` real digits as class folders of PNG and JPEG files."""
    source = DigitsSource("val", 0)
    names = {row.label: row.name for row in source.classes()}
    for number, entry in enumerate(list(source.entries())[:count]):
        data = source.read(entry, 1 << 20)
        folder = root / names[entry.label or 0]
        folder.mkdir(parents=True, exist_ok=True)
        if number % 2:
            (folder / f"{entry.key}.png").write_bytes(data)
        else:
            Image.open(io.BytesIO(data)).save(folder / f"{entry.key}.JPEG", quality=95)
    return root


def add_garbage(root: Path) -> dict[str, str]:
    """Put unusable files into a folder of digits; path to expected reason."""
    sound = next((root / "one").glob("*.png")).read_bytes()
    jpeg = next((root / "two").glob("*.JPEG")).read_bytes()
    files = {
        "one/empty.png": (b"", "empty file"),
        "one/words.jpg": (b"these are words, not pixels", "no image"),
        "one/cut.png": (sound[: len(sound) // 2], "broken PNG"),
        "two/cut.jpg": (jpeg[:-30], "truncated JPEG"),
        "two/bomb.png": (_bomb(), "too many pixels"),
        "cover.jpg": (jpeg, "outside of the class folders"),
        ".cache/thumb.png": (sound, "no class folder"),
    }
    for name, (data, _) in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return {name: reason for name, (_, reason) in files.items()}


def tree_hashes(folder: Path | str) -> dict[str, str]:
    """sha256 of every file below a folder, by its path there."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _bomb() -> bytes:
    sink = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(sink, format="PNG")
    return sink.getvalue()
