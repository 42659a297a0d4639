"""The core EM engine: Gaussian mixtures over frames of any kind. It knows nothing of speech."""

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.mixture import Mixture

__all__ = ["Coordinates", "Mixture"]
