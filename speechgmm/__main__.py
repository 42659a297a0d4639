"""`python -m speechgmm` is the command line."""

from speechgmm.cli import main

main()
