"""`python -m twofold`, for launchers such as torchrun."""

from twofold.cli import main

if __name__ == "__main__":
    main()
