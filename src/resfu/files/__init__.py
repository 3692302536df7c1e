"""Files that are written completely or not at all, and folders in which one process works at a time."""
