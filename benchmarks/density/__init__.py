"""What ``make bench-density`` measures: thousands of models in one worker."""
