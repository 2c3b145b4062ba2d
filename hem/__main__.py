"""``python -m hem COMMAND …``."""

from hem.cli import main

if __name__ == "__main__":
    main()
