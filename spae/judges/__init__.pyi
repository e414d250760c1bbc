from .base import Judge as Judge
from .base import JudgeRecord as JudgeRecord
from .base import View as View
from .catalogue import CATALOGUE as CATALOGUE
from .catalogue import load_judge as load_judge
from .resnet import PerceptualNetwork as PerceptualNetwork
from .resnet import load_perceptual as load_perceptual
