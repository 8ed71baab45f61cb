"""Records: frozen, closed values that every part of Burnish passes around."""
