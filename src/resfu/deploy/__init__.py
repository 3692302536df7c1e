"""Large images and volumes: exact results under a memory budget, and masks sharpened by the image."""
