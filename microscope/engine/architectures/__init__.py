"""One small file per model family: where its sites are. Data, and one way to look it up."""

from microscope.engine.architectures.anatomy import Anatomy, LogitFinish
from microscope.engine.architectures.architecture import Architecture
from microscope.engine.architectures.resolving import ARCHITECTURES, anatomy_of

__all__ = ["ARCHITECTURES", "Anatomy", "Architecture", "LogitFinish", "anatomy_of"]
