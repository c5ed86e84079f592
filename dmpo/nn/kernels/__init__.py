"""C++ kernels where they could be built: MLPs, losses with their gradients, whole models' gradients, Adam.

They only save time. `dmpo.nn.functional`, the one module that calls them, computes the same with PyTorch elsewhere.
"""
