"""Downloads that the user asks for: model files and voices. Imported by those commands alone, never by the daemon's processes."""
