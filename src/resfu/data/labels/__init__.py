"""Photos with one class per pixel: public data sets in their own formats, and plain folders of your own."""
