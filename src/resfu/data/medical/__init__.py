"""Medical volumes: Synapse and ACDC in the formats of TransUNet and its successors, their raw files, own volumes."""
