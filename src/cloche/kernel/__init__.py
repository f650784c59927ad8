"""One module per kernel facility: mechanism without policy."""
