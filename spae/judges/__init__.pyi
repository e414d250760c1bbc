from .resnet import PerceptualNetwork as PerceptualNetwork
from .resnet import load_perceptual as load_perceptual
