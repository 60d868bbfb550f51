"""Scripts that check claims on speed, memory and quality, by ratios measured in one run."""
