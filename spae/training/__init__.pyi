from .objective import Guidance as Guidance
from .objective import Objective as Objective
from .state import TrainState as TrainState
from .step import train_step as train_step
