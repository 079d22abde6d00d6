"""``python -m aes_dynloss``, and ``accelerate launch -m aes_dynloss``: the command line."""

from aes_dynloss.cli.main import main

if __name__ == "__main__":
    main()
