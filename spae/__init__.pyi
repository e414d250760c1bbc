from .config import SPAEConfig as SPAEConfig
from .model import SPAE as SPAE
from .presets import PRESETS as PRESETS
from .pyramid import TokenPyramid as TokenPyramid
from .vocabulary import Vocabulary as Vocabulary

__version__: str
