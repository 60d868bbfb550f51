"""A campaign of faults against real processes: nothing that was accepted may be lost."""
