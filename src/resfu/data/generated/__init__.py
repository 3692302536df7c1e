"""Generated data that need no download: scenes, CT scans and hearts, cached on disk."""
