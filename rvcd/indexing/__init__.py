"""`rvcd voice index build`: makes a voice's `.index` from recordings."""
