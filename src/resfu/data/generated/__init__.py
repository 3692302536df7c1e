"""Generated data that need no download: scenes, CT scans and hearts, kept in one kind of cache."""
