"""Write images as WebDataset shards, with an index, checksums, and a record of every input that could not be used.

    python -m pipelines.images --source digits --split train --output runs/demo/shards
    python -m pipelines.images --source folder --input photos/train --split train --output shards --seed 1
    python -m pipelines.images --source folder --input photos/train --split train --output small --short-side 256
    python -m pipelines.images --source imagenet --input ILSVRC2012_img_train.tar --split train --output shards
    python -m pipelines.images --source imagenet --input ILSVRC2012_img_val.tar --annotations ILSVRC2012_devkit_t12 \\
        --split val --output shards
    python -m pipelines.images --source webdataset --input 'gs://cc12m/{00000..00331}.tar' --split train --output shards
    python -m pipelines.images --source parquet --input 'food101/data/train-*.parquet' --split train --output shards

A rerun continues where a killed run ended; it lists the source again, to see that the inputs are the same. The plan is
made where the command runs: some 10 microseconds an input and 1 to 2 GB of memory, however many there are. Beam's own
flags are passed on (--direct_num_workers 8 --direct_running_mode multi_processing for more processes here), so that the
same command runs on Dataflow, with an image that holds this package:

    python -m pipelines.images --source folder --input gs://bucket/photos --split train --output gs://bucket/shards \\
        --runner=DataflowRunner --project=PROJECT --region=europe-west4 --temp_location=gs://bucket/temp \\
        --sdk_container_image=IMAGE --sdk_location=container --service_account_email=ACCOUNT \\
        --worker_machine_type=n2-standard-4 --max_num_workers=100
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.samples.images import CheckName, FormatName, ImageSamples
from pipelines.shards.command import ShardFlags, run_command
from spae.data.publishing import absolute
from spae.data.sources import IMAGE_PATTERNS, BrokenContainers, ImageSourceName, SourceSettings


@dataclass(frozen=True, kw_only=True)
class ImagesFlags(ShardFlags):
    """What to shard, and how."""

    source: ImageSourceName
    """folder: one folder of images a class, or images alone. digits: the real handwritten digits that scikit-learn
    ships. imagenet: ILSVRC2012 as tars or folders. imagenet21k: one tar a synset. webdataset: tars that others wrote.
    parquet: files with a column of image bytes. list: a .csv, .tsv or text file of path or URL, label, caption."""
    include: str = ""
    """folder: patterns of the file names that are inputs, such as '*.jpg,*.png'; without it the usual ones of images,
    with '*' all files."""
    split_seed: int = 0
    """Decides which digits are train, val and test."""
    annotations: str = ""
    """imagenet: file or folder of the development kit. Others: class names, one a line, or a classes.parquet."""
    image_column: str = ""
    """parquet: column of the image bytes, or of structs of bytes and path; found by usual names where not given."""
    label_column: str = ""
    """parquet: column of label numbers or class names."""
    text_column: str = ""
    """parquet: column of captions."""
    broken_containers: BrokenContainers = "fail"
    """Tars and Parquet files that are broken, cut, lost or of unknown length: fail before any work, or skip, that is
    take what can be read of them."""
    fetches: int = 8
    """Inputs of a store or of the web that each worker fetches at once."""
    timeout: float = 30.0
    """list: seconds that one answer of a web server may take."""
    retries: int = 5
    """list: times that a web server which is busy (429, 503 and the like) is asked again, when it says or after 0.5, 1,
    2 ... seconds; one that gives no answer is asked three times in all."""
    check: CheckName = "header"
    """header: each file's structure. decode: every pixel too, several times slower."""
    short_side: int | None = None
    """Shrink images whose short side is longer; the others keep their bytes, and nothing is ever enlarged."""
    square: bool = False
    """Crop what is shrunk, or is no square, to its centre square."""
    format: FormatName = "keep"
    """keep: JPEG and PNG stay what they are; of the others lossy ones (AVIF, most WebP) become JPEG of --quality, the
    rest PNG. jpg, png: all images become that."""
    quality: int = 95
    """Of JPEG, for images that are encoded anew."""

    def source_settings(self) -> SourceSettings:
        """Where the images come from."""
        return SourceSettings(
            name=self.source,
            url=absolute(self.input) if self.input else "",
            split=self.split,
            split_seed=self.split_seed,
            annotations=absolute(self.annotations) if self.annotations else "",
            image_column=self.image_column,
            label_column=self.label_column,
            text_column=self.text_column,
            broken_containers=self.broken_containers,
            fetches=self.fetches,
            timeout=self.timeout,
            retries=self.retries,
            include=self.include or (IMAGE_PATTERNS if self.source == "folder" else ""),
        )

    def sample_maker(self) -> ImageSamples:
        """How each image is stored."""
        return ImageSamples(
            check=self.check,
            short_side=self.short_side,
            square=self.square,
            format=self.format,
            quality=self.quality,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    return run_command(ImagesFlags, "pipelines.images", __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
