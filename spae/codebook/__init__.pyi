from .frozen import Codebook as Codebook
from .usage import LayerUsage as LayerUsage
from .usage import WordUsage as WordUsage
from .variants import CosineCodebook as CosineCodebook
from .variants import LearnedCodebook as LearnedCodebook
from .variants import ProjectedCodebook as ProjectedCodebook
