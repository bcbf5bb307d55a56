"""The parts of the screen, one widget a file. Each is told what to show by attributes and knows no daemon."""
