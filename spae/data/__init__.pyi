from .batch import Batch as Batch
from .media import MediaError as MediaError
from .records import SplitIndex as SplitIndex
from .records import load_index as load_index
