"""How fast this project is next to its peers, and everything that a GPU is asked in minutes."""
