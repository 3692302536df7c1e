"""`resfu compare`: train the same network once per upsampler, and report the results."""
