"""What several tests need: tiny copies of the data sets on disk."""
