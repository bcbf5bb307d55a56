"""The C of rvcd.nets.tiled_conv; _build.py makes it the extension module rvcd.nets._conv._native."""
