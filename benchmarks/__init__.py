"""What ``make bench-*`` runs: figures as ratios taken side by side in one run, written beside their goals."""
