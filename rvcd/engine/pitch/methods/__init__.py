"""F0 methods, one file each. engine.pitch creates them by name."""
