"""Examples: what a user would write. They import nothing of Burnish."""
