"""A local page that shows what an upsampler does to the features of a photo: `resfu explore`."""
