"""The one thing pyproject.toml cannot say: the C extension of the audio path is built by cffi at install."""

from setuptools import setup

setup(cffi_modules=["rvcd/ipc/_build.py:ffibuilder"])
