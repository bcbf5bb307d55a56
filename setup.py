"""The one thing pyproject.toml cannot say: the C extension of the audio path is built by cffi at install."""

from setuptools import setup

setup(cffi_modules=["rvcd/audio/_build.py:ffibuilder"])
