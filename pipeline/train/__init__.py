"""Training the models that the stages use: what they learn from, their losses, and the loops of the libraries."""
