"""The monitor process: plays what the user hears of themselves on a device of its own."""
