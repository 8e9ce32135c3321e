"""What Onward costs, as figures and ratios taken in one run."""
