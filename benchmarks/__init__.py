"""How fast this project is beside its peers, measured in one run; see README.md beside this
file.
"""
