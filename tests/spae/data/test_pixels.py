import numpy as np
import pytest
import torch
from PIL import Image

from spae.data.pixels import stack_pictures
from tests.videos import panned

SIZE = (4, 16, 16)


def test_clips_are_taken_as_a_tensor_a_list_of_tensors_or_lists_of_images():
    whole = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    assert torch.equal(stack_pictures(whole, SIZE), whole)
    assert torch.equal(stack_pictures(list(whole), SIZE), whole)
    images = [[Image.fromarray(frame) for frame in clip.permute(1, 2, 3, 0).numpy()] for clip in whole]
    assert torch.equal(stack_pictures(images, SIZE), whole)
    assert torch.equal(stack_pictures(whole.float() / 255, SIZE), whole.float() / 255)


def test_frames_of_another_size_are_cropped_and_resized_like_pictures():
    frames = [Image.fromarray(frame) for frame in panned(4)]
    (clip,) = stack_pictures([frames], SIZE)
    pictures = stack_pictures(frames, SIZE[1:])
    assert torch.equal(clip, pictures.movedim(0, 1))


def test_what_does_not_fit_says_what_would():
    clips = torch.zeros(2, 3, *SIZE)
    with pytest.raises(ValueError, match=r"this model takes pictures \(B, 3, 16, 16\): give it the frames"):
        stack_pictures(clips, (16, 16))
    with pytest.raises(ValueError, match="are clips, and this model takes pictures"):
        stack_pictures([[Image.fromarray(frame) for frame in panned(4)]], (16, 16))
    with pytest.raises(ValueError, match=r"are pictures, and this model takes clips \(B, 3, 4, 16, 16\)"):
        stack_pictures([Image.fromarray(np.zeros((16, 16, 3), np.uint8))], SIZE)
    with pytest.raises(ValueError, match="have 3 frames, and this model takes clips of 4"):
        stack_pictures(clips[:, :, :3], SIZE)
    with pytest.raises(ValueError, match=r"shapes \[\(3, 3, 16, 16\), \(3, 4, 16, 16\)\] make no batch"):
        stack_pictures([clips[0], clips[0, :, :3]], SIZE)
    with pytest.raises(ValueError, match="must be \\(B, 3, 4, 16, 16\\)"):
        stack_pictures(clips[..., :8], SIZE)
    with pytest.raises(ValueError, match="without frames"):
        stack_pictures([[]], SIZE)
    assert stack_pictures([], SIZE).shape == (0, 3, *SIZE)
