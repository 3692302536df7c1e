"""Networks outside training: large images, and other runtimes."""
