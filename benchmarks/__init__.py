"""One script a claim about speed or memory, each printing ratios measured side by side."""
