import io

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from PIL import Image
from torchvision.models import alexnet

from spae.data.media import fit_image
from spae.evaluation.distances import frechet_distance
from spae.evaluation.judging import Examiner, JudgedPictures, SeenPictures, parts_of, statistics_sha256
from spae.judges.catalogue import load_judge
from spae.judges.tiny import TinyJudge
from tests.photographs import crops, photographs

FRECHET, INCEPTION, DISTANCE = "Frechet distance", "Inception-style score", "LPIPS-style distance"
BATCH = 8
PARTS = torch.zeros(BATCH, dtype=torch.int64)


@pytest.fixture(scope="module")
def examiner():
    """The real classifier, at 64 pixels."""
    return Examiner(load_judge("efficientnet-lite0"), (64, 64), BATCH)


@pytest.fixture(scope="module")
def originals():
    """24 crops of real photographs."""
    return crops(64, 8)


@pytest.fixture(scope="module")
def reference(examiner, originals):
    """What is seen in them, batch by batch and as a whole."""
    seen, views = SeenPictures(examiner, 1), [examiner.view(one) for one in originals.split(BATCH)]
    for view in views:
        seen.update(view, PARTS)
    return seen, views


def judged(examiner, reference, pictures):
    scores = JudgedPictures(examiner, 1)
    for view, one in zip(reference[1], pictures.split(BATCH), strict=True):
        scores.update(one, view, PARTS)
    return scores.compute(reference[0])


def noise(pictures, strength):
    drawn = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + strength * drawn).clamp(0, 255).byte()


def jpeg(pictures, quality):
    made = []
    for picture in pictures.permute(0, 2, 3, 1).numpy():
        sink = io.BytesIO()
        Image.fromarray(picture).save(sink, "JPEG", quality=quality)
        made.append(np.asarray(Image.open(sink)))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def blur(pictures, side):
    small = torch.nn.functional.interpolate(pictures.float(), (side, side), mode="area")
    return torch.nn.functional.interpolate(small, (64, 64), mode="bilinear").round().byte()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "strengths"),
    [(noise, (5, 20, 60)), (blur, (48, 24, 12)), (jpeg, (80, 25, 5))],
    ids=["noise", "blur", "jpeg"],
)
def test_what_spoils_pictures_raises_both_distances(examiner, reference, originals, spoil, strengths):
    found = [judged(examiner, reference, spoil(originals, strength)) for strength in strengths]
    for name in (FRECHET, DISTANCE):
        values = [one[name] for one in found]
        assert 0 < values[0] < values[1] < values[2]


def test_a_set_is_at_no_distance_from_itself(examiner, reference, originals):
    found = judged(examiner, reference, originals)
    assert found[FRECHET] == pytest.approx(0, abs=1e-6)
    assert found[DISTANCE] == 0
    assert found[INCEPTION] > 1


def test_a_last_batch_is_filled_up_so_that_views_depend_on_no_neighbour():
    examiner, pixels = Examiner(TinyJudge(), (16, 16), 8), torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    whole = examiner.view(pixels)
    for start, stop in ((0, 3), (3, 8)):
        part = examiner.view(pixels[start:stop])
        assert torch.equal(part.features, whole.features[start:stop])
        assert torch.equal(part.maps[1], whole.maps[1][start:stop])


def test_statistics_have_a_hash_and_merge_to_1e_9(examiner, originals):
    parts = parts_of([str(n) for n in range(24)], 2, 0)

    def seen(sizes):
        found = SeenPictures(examiner, 2)
        for one, at in zip(originals.split(sizes), parts.split(sizes), strict=True):
            part = SeenPictures(examiner, 2)
            part.update(examiner.view(one), at)
            found.merge(part)
        return found

    first, again, other = seen([8, 8, 8]), seen([8, 8, 8]), seen([7, 1, 8, 5, 3])
    assert statistics_sha256({"a": first}) == statistics_sha256({"a": again})
    for name, value in first.state().items():
        torch.testing.assert_close(other.state()[name], value, rtol=1e-9, atol=1e-9)
    assert frechet_distance(first.moments, other.moments) == pytest.approx(0, abs=1e-6)


def test_pictures_too_small_are_named(tmp_path):
    state = {f"features.{name}": tensor for name, tensor in alexnet().features.state_dict().items()}
    torch.save(state, tmp_path / "alex.pth")
    with pytest.raises(ValueError, match=r"lpips-alex cannot judge pictures of \(16, 16\)"):
        Examiner(load_judge(f"lpips-alex={tmp_path / 'alex.pth'}"), (16, 16), 2)


def test_our_crop_resizes_as_clean_fid_does():
    """Both are Pillow's antialiased bicubic; ours rounds and clips between the two directions, theirs does not."""
    photograph = photographs()[1][:, :400].copy()
    square = photograph[:400, :400].copy()
    ours = fit_image(square, (96, 96)).astype(float)
    theirs = make_resizer("PIL", False, "bicubic", (96, 96))(square)
    assert np.abs(ours - theirs.clip(0, 255)).max() <= 3
    assert np.abs(ours - theirs.clip(0, 255)).mean() < 0.4
