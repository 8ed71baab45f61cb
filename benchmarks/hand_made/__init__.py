"""What an expert writes by hand with each tool's own interface, net by net the same lines; nothing of our passes."""
