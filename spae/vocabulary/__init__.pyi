from .record import VocabularyRecord as VocabularyRecord
from .vocabulary import Vocabulary as Vocabulary
