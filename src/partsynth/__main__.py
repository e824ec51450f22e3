"""`python -m partsynth`: the command line."""

from partsynth.cli.main import main

main()
