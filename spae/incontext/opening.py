"""A language model by its place: an address, a folder, a hub id, a file, or a reference without weights.

What it is called and how it counts tokens is known without opening its weights.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from spae.incontext.language_model import LanguageModel, TokenCounter
from spae.incontext.nearest import WITHOUT_WEIGHTS

if TYPE_CHECKING:
    from spae.incontext.endpoint import EndpointSettings

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SCHEMES = ("http://", "https://")
_FORMS = (
    "allowed are nearest-context, majority-context, http(s)://HOST/v1 with the model's name, a local folder or hub id "
    "of transformers, a local FILE.gguf, and an installed package that ships one"
)


def open_language_model(
    place: str,
    *,
    name: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    token_budget: int = 16_384,
    endpoint: "EndpointSettings | None" = None,
) -> LanguageModel:
    """The model at a place.

    Args:
        place: nearest-context, majority-context, http(s)://HOST/v1, a local folder, a hub id, or a local .gguf file.
        name: as the server calls the model, or as a local model shall be called.
        device: of torch, for a local model.
        dtype: of its weights; by default float32 on a CPU and their own elsewhere.
        token_budget: most tokens that it holds at once.
        endpoint: how a server is asked.

    Raises:
        ValueError: it is none of these, or cannot be opened.
    """
    if not has_weights(place):
        return _open_light(place, name, endpoint)
    from spae.incontext.local import TransformersModel  # transformers' models take seconds to import

    try:
        return TransformersModel(place, name=name, device=device, dtype=dtype, token_budget=token_budget)
    except ValueError as error:
        raise ValueError(f"{error}; {_FORMS}") from error


def has_weights(place: str) -> bool:
    """Whether what stands there is opened on this machine; ValueError where it can be no language model."""
    if place in WITHOUT_WEIGHTS or place.startswith(_SCHEMES):
        return False
    if not Path(place).exists() and (place.endswith(".gguf") or not _HUB_ID.fullmatch(place)):
        raise ValueError(f"there is no language model at {place!r}; {_FORMS}")
    return True


def identify_language_model(place: str, *, name: str | None = None) -> tuple[str, str]:
    """Name and revision as the opened model has them, the latter empty of a server, which has to be asked first.

    ValueError as in `open_language_model`.
    """
    if not has_weights(place):
        model = _open_light(place, name, None)
        return model.name, model.revision if place in WITHOUT_WEIGHTS else ""
    from spae.incontext.weights import weights_revision  # as above

    return name or Path(place).name, weights_revision(place)


def open_token_counter(
    place: str, *, name: str | None = None, endpoint: "EndpointSettings | None" = None
) -> TokenCounter:
    """What counts the tokens of the model at a place; ValueError as in `open_language_model`."""
    if not has_weights(place):
        return _open_light(place, name, endpoint)
    from spae.incontext.weights import LocalTokens  # as above

    return LocalTokens(place)


def _open_light(place: str, name: str | None, settings: "EndpointSettings | None") -> LanguageModel:
    if place in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[place]()
    if not name:
        raise ValueError(f"a server may run several models; say which of {place}'s by its name (--llm-name)")
    try:
        from spae.incontext.endpoint import EndpointModel
    except ModuleNotFoundError as error:
        raise ValueError(f"a server is asked by the openai package: pip install 'spae[llm]' ({error})") from error
    return EndpointModel(place, name=name, settings=settings)
