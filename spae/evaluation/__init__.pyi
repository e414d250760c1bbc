from .few_shot import few_shot_accuracy as few_shot_accuracy
from .metrics import Metric as Metric
from .reconstruction import SplitMetrics as SplitMetrics
