from .autoencoder import Decoder as Decoder
from .autoencoder import Encoder as Encoder
from .discriminator import Discriminator as Discriminator
from .layers import recompute_activations as recompute_activations
