"""Small changes of the product that a test must notice: `make mutants`."""
