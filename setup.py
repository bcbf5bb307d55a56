"""The one thing pyproject.toml cannot say: the C of the audio path and of the networks is built by cffi at install."""

from setuptools import setup

setup(cffi_modules=["rvcd/ipc/_build.py:ffibuilder", "rvcd/nets/_conv/_build.py:ffibuilder"])
