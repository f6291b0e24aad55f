"""Four quarters of real software support facts through the loop: `python -m demo`."""
