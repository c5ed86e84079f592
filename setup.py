"""The part that is compiled; everything else about the package is in setup.cfg."""

from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("dmpo/kernels")

native = Extension(
    "dmpo.kernels.native",
    [str(KERNELS / "kernels.cpp")],
    depends=[str(header) for header in KERNELS.glob("*.h")],
    extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi", "-Wno-unused-function"],
    extra_link_args=["-fopenmp"],
    language="c++",
    optional=True,  # where it cannot be built, PyTorch does its work
)
setup(ext_modules=[native])
