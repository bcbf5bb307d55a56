"""`rvcd eval`: how well a voice converts recorded speech, judged by small networks made by others."""
