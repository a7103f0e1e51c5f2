"""Run the command line by `python -m patchct_edge`."""

from patchct_edge.cli.app import main

if __name__ == "__main__":
    main()
