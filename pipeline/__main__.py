"""`python -m pipeline` is the command `eedi`."""

from pipeline.cli import main

main()
