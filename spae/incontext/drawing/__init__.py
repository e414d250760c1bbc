"""Drawing: a frozen language model writes the words of a picture, segment by segment (equations 10 and 11)."""

from spae.incontext.drawing.base import DrawingEpisode as DrawingEpisode
from spae.incontext.drawing.base import DrawingQuery as DrawingQuery
from spae.incontext.drawing.base import DrawingTask as DrawingTask
from spae.incontext.drawing.base import DrawnPictures as DrawnPictures
from spae.incontext.drawing.class_drawing import ClassDrawing as ClassDrawing
from spae.incontext.drawing.denoising import Denoising as Denoising
from spae.incontext.drawing.drawer import Drawing as Drawing
from spae.incontext.drawing.drawer import DrawingRequest as DrawingRequest
from spae.incontext.drawing.drawer import DrawnExample as DrawnExample
from spae.incontext.drawing.drawer import PromptAnswerer as PromptAnswerer
from spae.incontext.drawing.drawer import Sampling as Sampling
from spae.incontext.drawing.drawer import WordDrawer as WordDrawer
from spae.incontext.drawing.segments import Decoding as Decoding
from spae.incontext.drawing.segments import Segment as Segment
from spae.incontext.drawing.segments import waves as waves
