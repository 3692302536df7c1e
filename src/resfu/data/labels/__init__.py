"""Photos with one class a pixel: each data set in its own format on disk, and plain folders of your own."""
