"""Networks in use: large images under a memory budget, masks sharpened by the image, other runtimes."""
