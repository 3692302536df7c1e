"""Medical volumes: Synapse and ACDC as TransUNet's followers prepare them, their raw files, and procedural ones."""
