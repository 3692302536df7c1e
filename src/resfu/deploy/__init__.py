"""Deployment: large images under a memory budget, masks refined by the image, export to other runtimes."""
