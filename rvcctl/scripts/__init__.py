"""The commands of rvcctl for scripts, and for keys of a Stream Deck: no textual in here, they start in a moment."""
