"""The terminal client of rvcd: a screen for people and commands for scripts, both over OSC."""
