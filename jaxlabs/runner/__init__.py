"""The runner: command line, modes, sweeps and reproduction of labs."""
