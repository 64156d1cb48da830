"""`python -m b24offline`: the command line."""

from b24offline.cli import main

if __name__ == "__main__":
    main(prog_name="b24offline")
