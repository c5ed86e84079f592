"""The parts that are compiled; everything else about the package is in setup.cfg."""

from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("dmpo/nn/kernels")

kernels = Extension(
    "dmpo.nn.kernels.native",
    [str(KERNELS / "kernels.cpp")],
    depends=[str(header) for header in KERNELS.glob("*.h")],
    extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi", "-Wno-unused-function"],
    extra_link_args=["-fopenmp"],
    libraries=["mvec"],
    language="c++",
    optional=True,  # where it cannot be built, PyTorch does its work
)
# Where it cannot be built, Python speaks to every vehicle itself.
speeds = Extension(
    "envs.sumo.native_speeds",
    ["envs/sumo/speeds.cpp"],
    extra_compile_args=["-std=c++17", "-O3"],
    language="c++",
    optional=True,
)
setup(ext_modules=[kernels, speeds])
