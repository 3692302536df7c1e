"""`resfu explore`: a local page that shows the effect of an upsampler on the features of a photo."""
