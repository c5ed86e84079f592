"""Networks, distributions and losses of all agents at once; `functional` is the one door to the kernels."""
