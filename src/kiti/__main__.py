"""`python -m kiti` is the `kiti` command."""

from kiti.app import main

main()
