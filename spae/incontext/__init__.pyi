from .language_model import Answer as Answer
from .language_model import AnswerLimits as AnswerLimits
from .language_model import LanguageModel as LanguageModel
from .language_model import Prompt as Prompt
from .language_model import check_context as check_context
from .local import TransformersModel as TransformersModel
