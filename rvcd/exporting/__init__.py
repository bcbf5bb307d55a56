"""`rvcd voice export`: a voice, and the content encoder it takes, as ONNX files for other programs."""
