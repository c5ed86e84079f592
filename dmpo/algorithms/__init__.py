"""The algorithms, one a file with its settings; importing this package registers them all."""

from dmpo.algorithms import cppo, dmpo, dmpo_sac, dppo, dsac, ia2c, ic3net

__all__ = ["cppo", "dmpo", "dmpo_sac", "dppo", "dsac", "ia2c", "ic3net"]
