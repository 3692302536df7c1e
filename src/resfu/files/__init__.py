"""Writing files that are either whole or not there, and folders that one process works in at a time."""
