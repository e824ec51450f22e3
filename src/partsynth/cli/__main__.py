"""`python -m partsynth.cli`, as `accelerate launch -m partsynth.cli train` starts it."""

from partsynth.cli.main import main

main()
