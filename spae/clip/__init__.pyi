from .guide import ClipGuide as ClipGuide
from .guide import image_features as image_features
from .guide import imagenet_templates as imagenet_templates
from .guide import load_clip as load_clip
from .guide import prompt_features as prompt_features
